// Third-party MPPS peers, for tests. Usage: node mpps.mjs '<json>', where <json> is one of
//   {"port":n,"calling":t,"called":t,"events":[["create|set",instance,values]]}  one line for each answer
//   {"listen":n}  prints `listening <port>`, then one line for each event that it takes
// With {"ca":file,"certificate":file,"key":file} over TLS, where both sides show their certificates.
// Lines are JSON: {"status":n,"error":n} of an answer, {"command","instance","values"} of an event.
import { readFileSync } from 'node:fs';
import dimse from 'dcmjs-dimse';

const { Client, Dataset, Server, Scp, requests, responses, constants } = dimse;
const { Status, TransferSyntax, PresentationContextResult } = constants;
const MPPS = '1.2.840.10008.3.1.2.3.3';
const wish = JSON.parse(process.argv[2]);
const read = (name) => readFileSync(wish[name]);
const options = wish.ca
  ? { securityOptions: { ca: read('ca'), cert: read('certificate'), key: read('key'), requestCert: true, rejectUnauthorized: true } }
  : {};
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

function tell() {
  const client = new Client();
  for (const [command, instance, values] of wish.events) {
    const Kind = command === 'create' ? requests.NCreateRequest : requests.NSetRequest;
    const request = new Kind(MPPS, instance);
    request.setDataset(new Dataset(values));
    request.on('response', (answer) => {
      const command = answer.getCommandDataset();
      say({ status: answer.getStatus(), error: command ? command.getElement('ErrorID') ?? null : null });
    });
    client.addRequest(request);
  }
  const failed = (why) => {
    process.stderr.write(`${why}\n`);
    process.exitCode = 1;
  };
  client.on('networkError', failed);
  client.on('associationRejected', (why) => failed(JSON.stringify(why)));
  client.send('127.0.0.1', wish.port, wish.calling ?? 'CT1', wish.called ?? 'RADBRIDGE', options);
}

class Receiver extends Scp {
  associationRequested(association) {
    for (const { id } of association.getPresentationContexts()) {
      association.getPresentationContext(id).setResult(PresentationContextResult.Accept, TransferSyntax.ImplicitVRLittleEndian);
    }
    this.sendAssociationAccept();
  }
  nCreateRequest(request, callback) {
    this.take('create', request.getAffectedSopInstanceUid(), request, responses.NCreateResponse, callback);
  }
  nSetRequest(request, callback) {
    this.take('set', request.getRequestedSopInstanceUid(), request, responses.NSetResponse, callback);
  }
  take(command, instance, request, Response, callback) {
    say({ command, instance, values: request.getDataset().getElements() });
    const answer = Response.fromRequest(request);
    answer.setStatus(Status.Success);
    callback(answer);
  }
  associationReleaseRequested() {
    this.sendAssociationReleaseResponse();
  }
}

if (wish.listen === undefined) {
  tell();
} else {
  const server = new Server(Receiver);
  server.on('networkError', (why) => process.stderr.write(`${why}\n`));
  server.listen(wish.listen, options);
  process.stdout.write(`listening ${wish.listen}\n`);
}
