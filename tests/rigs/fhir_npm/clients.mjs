// A FHIR client that nobody of this project wrote, on a server: one story of writes and reads.
// Usage: node clients.mjs '{"client":"fhir-kit"|"medplum","base":"http://127.0.0.1:8080/fhir","number":"N1"}'
// Prints what each step gave, as one JSON object.
import { MedplumClient } from '@medplum/core';
import { Client } from 'fhir-kit-client';

const { client: name, base, number } = JSON.parse(process.argv[2]);
const system = 'urn:oid:2.25.8';
const patient = { resourceType: 'Patient', identifier: [{ system, value: number }], name: [{ family: 'TESTPATIENT' }] };
const query = { identifier: `${system}|${number}` };
const change = [{ op: 'add', path: '/gender', value: 'female' }];
const name1 = 'urn:uuid:0f2a2f6e-0000-4000-8000-000000000009';
const transaction = {
  resourceType: 'Bundle', type: 'transaction', entry: [
    { fullUrl: name1, resource: { ...patient, identifier: [{ system, value: `${number}-t` }] },
      request: { method: 'POST', url: 'Patient', ifNoneExist: `identifier=${system}|${number}-t` } },
    { resource: { resourceType: 'ServiceRequest', status: 'active', intent: 'order', subject: { reference: name1 },
      identifier: [{ system, value: `${number}-o` }] }, request: { method: 'POST', url: 'ServiceRequest' } },
  ],
};

async function kit() {
  const client = new Client({ baseUrl: base });
  const statement = await client.capabilityStatement();
  const made = await client.create({ resourceType: 'Patient', body: patient });
  const read = await client.read({ resourceType: 'Patient', id: made.id });
  const found = await client.search({ resourceType: 'Patient', searchParams: query });
  const updated = await client.update({ resourceType: 'Patient', id: made.id, body: { ...read, active: true } });
  const patched = await client.patch({ resourceType: 'Patient', id: made.id, jsonPatch: change });
  const history = await client.history({ resourceType: 'Patient', id: made.id });
  const answer = await client.transaction({ body: transaction });
  let refused = '';
  try {
    await client.create({ resourceType: 'Patient', body: { resourceType: 'Patient', gender: 'unheard-of' } });
  } catch (error) {
    refused = error.response.data.issue[0].expression[0];
  }
  await client.delete({ resourceType: 'Patient', id: made.id });
  return tell(statement, made, read, found, updated, patched, history, answer, refused);
}

async function medplum() {
  const client = new MedplumClient({ baseUrl: base.replace(/fhir$/, ''), fhirUrlPath: 'fhir', fetch });
  const statement = await client.get(`${base}/metadata`);
  const made = await client.createResource(patient);
  const read = await client.readResource('Patient', made.id);
  const found = await client.search('Patient', query);
  const updated = await client.updateResource({ ...read, active: true });
  const patched = await client.patchResource('Patient', made.id, change);
  const history = await client.readHistory('Patient', made.id);
  const answer = await client.executeBatch(transaction);
  let refused = '';
  try {
    await client.createResource({ resourceType: 'Patient', gender: 'unheard-of' });
  } catch (error) {
    refused = error.outcome.issue[0].expression[0];
  }
  await client.deleteResource('Patient', made.id);
  return tell(statement, made, read, found, updated, patched, history, answer, refused);
}

function tell(statement, made, read, found, updated, patched, history, answer, refused) {
  return {
    version: statement.fhirVersion, read: read.id === made.id, found: found.entry.map((one) => one.resource.id === made.id),
    updated: [updated.active, updated.meta.versionId], patched: [patched.gender, patched.meta.versionId],
    history: history.entry.length, answer: answer.entry.map((one) => one.response.status.slice(0, 3)),
    linked: answer.entry[1].resource.subject.reference === `Patient/${answer.entry[0].resource.id}`, refused,
  };
}

console.log(JSON.stringify(await (name === 'medplum' ? medplum() : kit())));
process.exit(0);
