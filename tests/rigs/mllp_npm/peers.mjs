// Third-party MLLP peers, for tests. Usage: node peers.mjs '<json>', where <json> is one of
//   {"client":"medplum","port":n,"messages":[text],"wait":"first|application"}  one answer is printed for each message
//   {"client":"node-hl7","port":n,"messages":[text],"answers":n,"tls":{ca,cert,key}}  n answers are printed for each
//   {"server":"medplum","enhanced":bool,"application":"AA|AE|AR|","tls":{cert,key}}
// A client prints each answer as a JSON string, and ends. The server prints `listening <port>`, then each message as a
// JSON string. TLS files are named by path.
import { readFileSync } from 'node:fs';
import { createServer as createTlsServer } from 'node:tls';
import { Hl7Message } from '@medplum/core';
import { Hl7Client, Hl7Connection, Hl7Server } from '@medplum/hl7';
import { Batch, Client, Message } from 'node-hl7-client';

const wish = JSON.parse(process.argv[2]);
const say = (value) => process.stdout.write(`${typeof value === 'string' ? JSON.stringify(value) : value.join(' ')}\n`);
const tls = wish.tls && Object.fromEntries(Object.entries(wish.tls).map(([name, path]) => [name, readFileSync(path)]));

async function medplumClient() {
  const client = new Hl7Client({ host: '127.0.0.1', port: wish.port, keepAlive: true });
  for (const text of wish.messages) {
    say((await client.sendAndWait(Hl7Message.parse(text), { returnAck: wish.wait, timeoutMs: 20000 })).toString());
  }
  await client.close();
}

async function nodeHl7Client() {
  const client = new Client({ host: '127.0.0.1', ...(tls ? { tls } : {}) });
  let [left, done] = [0, () => undefined];
  const connection = client.createConnection({ port: wish.port }, (response) => {
    say(response.getMessage().toString());
    if (--left === 0) done();
  });
  await new Promise((resolve) => connection.once('connect', resolve));
  for (const text of wish.messages) {
    left = wish.answers ?? 1;
    const answered = new Promise((resolve) => (done = resolve));
    await connection.sendMessage(text.startsWith('MSH') ? new Message({ text }) : new Batch({ text }));
    await answered;
  }
  await connection.close();
}

function medplumServer() {
  const handle = (connection) => {
    connection.addEventListener('message', ({ message }) => {
      say(message.toString());
      if (wish.application) connection.send(message.buildAck({ ackCode: wish.application }));
    });
  };
  if (tls) {
    const server = createTlsServer(tls, (socket) => handle(new Hl7Connection(socket, 'utf-8', wish.enhanced)));
    server.listen(0, '127.0.0.1', () => say(['listening', server.address().port]));
    return;
  }
  const server = new Hl7Server(handle);
  server.start(0, 'utf-8', wish.enhanced);
  server.server.once('listening', () => say(['listening', server.server.address().port]));
}

if (wish.server) medplumServer();
else {
  await (wish.client === 'medplum' ? medplumClient() : nodeHl7Client());
  process.exit(0);
}
