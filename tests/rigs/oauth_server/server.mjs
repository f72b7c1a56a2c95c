// A third-party OAuth2 authorization server (oidc-provider), and a door that lets its tokens through to a FHIR server.
//   /token              client credentials: secret in header or body, or private_key_jwt (RS384, ES384)
//   /fhir               to the FHIR server behind, for who shows a token that is valid; else 401
//   /fhir/.well-known/smart-configuration   names the token endpoint
//   /introspect         says of its opaque tokens whether they are valid
//   /keys    POST {"keys": [...]}: from now on tokens are signed with these private JWKs (the first), and these are shown
//   /seen    GET: what was asked: each path with the status it was answered, and how the client proved who it is
//   /forget  POST: no token that was given out is valid any more
//   /mode    POST {"status":503,"retryAfter":7}: /token answers so; {"away": true}: /jwks is away
// Prints `listening <port>` once it serves. Usage: node server.mjs
//   '{"fhir": "http://127.0.0.1:1", "ttl": 60, "jwks": {...}, "tls": {"certificate": path, "key": path, "ca": path},
//   "resource": {"audience": url, "scope": "a b", "claims": {client: {name: value}}, "keys": [...]}}'
// With `resource`, tokens for that audience are JWTs.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import Provider from 'oidc-provider';

const wish = JSON.parse(process.argv[2]);
const scope = wish.resource?.scope ?? 'system/*.read system/*.write';
const client = (id, method, more) => ({
  client_id: id, token_endpoint_auth_method: method, grant_types: ['client_credentials'], redirect_uris: [],
  response_types: [], scope, ...more,
});
const secret = 'a secret: with/odd+signs%';
let [valid, seen, mode] = [new Set(), [], {}];

const server = wish.tls
  ? createTlsServer({ cert: readFileSync(wish.tls.certificate), key: readFileSync(wish.tls.key),
    ca: readFileSync(wish.tls.ca), requestCert: true, rejectUnauthorized: true })
  : createServer();
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const root = `${wish.tls ? 'https' : 'http'}://127.0.0.1:${server.address().port}`;

const resources = wish.resource && {
  enabled: true, useGrantedResource: () => true,
  getResourceServerInfo: (_, audience) => ({
    audience, scope, accessTokenFormat: 'jwt', accessTokenTTL: wish.ttl ?? 60, jwt: { sign: { alg: wish.resource.alg ?? 'RS256' } },
  }),
};
const make = (keys) => new Provider(root, {
  ...(keys ? { jwks: { keys } } : {}),
  extraTokenClaims: (_, token) => wish.resource?.claims?.[token.clientId],
  clients: [
    client('bridge:basic', 'client_secret_basic', { client_secret: secret }),
    client('bridge-post', 'client_secret_post', { client_secret: secret }),
    client('bridge-rsa', 'private_key_jwt', { jwks: wish.jwks, token_endpoint_auth_signing_alg: 'RS384' }),
    client('bridge-ec', 'private_key_jwt', { jwks: wish.jwks, token_endpoint_auth_signing_alg: 'ES384' }),
  ],
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt'],
  enabledJWA: { clientAuthSigningAlgValues: ['RS384', 'ES384'] },
  features: {
    clientCredentials: { enabled: true }, devInteractions: { enabled: false },
    ...(resources ? { resourceIndicators: resources } : {}),
    introspection: { enabled: true, allowedPolicy: () => true },
  },
  scopes: scope.split(' '),
  ttl: { ClientCredentials: wish.ttl ?? 60 },
});
let provider = make(wish.resource?.keys);
provider.on('client_credentials.saved', (token) => valid.add(token.jti));

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function send(response, status, value, headers = {}) {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(value));
}

async function through(request, response) {
  const token = (request.headers.authorization ?? '').replace('Bearer ', '');
  const found = valid.has(token) && await provider.ClientCredentials.find(token);
  if (!found) return send(response, 401, { resourceType: 'OperationOutcome' }, { 'www-authenticate': 'Bearer' });
  const data = request.method === 'GET' ? undefined : await body(request);
  const answer = await fetch(wish.fhir + request.url, {
    method: request.method, body: data, headers: { 'content-type': request.headers['content-type'] ?? '' },
  });
  response.writeHead(answer.status, { 'content-type': 'application/fhir+json' });
  return response.end(Buffer.from(await answer.arrayBuffer()));
}

async function handle(request, response) {
  const [path] = request.url.split('?');
  if (path === '/seen') return send(response, 200, seen);
  if (path === '/keys') return send(response, 200, { keys: (provider = make(JSON.parse(await body(request)).keys)) && 1 });
  if (path === '/forget') return send(response, 200, valid.clear() ?? {});
  if (path === '/mode') return send(response, 200, (mode = JSON.parse(await body(request))));
  response.on('finish', () => seen.push({ path, status: response.statusCode,
    certificate: request.socket.getPeerCertificate?.()?.subject?.CN, basic: request.headers.authorization?.startsWith('Basic ') }));
  if (path === '/fhir/.well-known/smart-configuration') return send(response, 200, { token_endpoint: `${root}/token` });
  if (path === '/jwks' && mode.away) return send(response, 503, {});
  if (path.startsWith('/fhir')) return through(request, response);
  if (path === '/token' && mode.status) {
    return send(response, mode.status, { error: 'temporarily_unavailable' }, { 'retry-after': `${mode.retryAfter ?? 0}` });
  }
  return provider.callback()(request, response);
}

server.on('request', (request, response) => {
  handle(request, response).catch((error) => send(response, 500, { error: String(error) }));
});
console.log(`listening ${server.address().port}`);
