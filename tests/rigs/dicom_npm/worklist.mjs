// A third-party modality that asks for its worklist, for tests. Usage: node worklist.mjs '<json>':
//   {"port":n,"calling":t,"called":t,"keys":{},"ca":file,"certificate":file,"key":file}  the last three over TLS
// One JSON line for each response: {"status":n,"item":{}}.
import { readFileSync } from 'node:fs';
import dimse from 'dcmjs-dimse';

const { Client, requests } = dimse;
const wish = JSON.parse(process.argv[2]);
const read = (name) => (wish[name] === undefined ? undefined : readFileSync(wish[name]));
const failed = (why) => {
  process.stderr.write(`${why}\n`);
  process.exitCode = 1;
};

const request = requests.CFindRequest.createWorklistFindRequest(wish.keys);
request.on('response', (answer) => {
  const item = answer.hasDataset() ? answer.getDataset().getElements() : null;
  process.stdout.write(`${JSON.stringify({ status: answer.getStatus(), item })}\n`);
});
const client = new Client();
client.addRequest(request);
client.on('networkError', failed);
client.on('associationRejected', (why) => failed(JSON.stringify(why)));
const security = { ca: read('ca'), cert: read('certificate'), key: read('key'), requestCert: true, rejectUnauthorized: true };
client.send('127.0.0.1', wish.port, wish.calling ?? 'CT1', wish.called ?? 'RADBRIDGE', wish.ca ? { securityOptions: security } : {});
