// A real OpenID provider, told what to do on its standard input: one JSON array of private keys per line replaces its
// keys. The first line starts it. Tokens are JWTs for the resource `urn:orders` and opaque for any other.
import { createInterface } from 'node:readline';

import { createServer } from 'node:http';

import Provider from 'oidc-provider';

const [port, client, secret] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;

function provider(keys) {
  return new Provider(issuer, {
    jwks: { keys },
    clients: [
      {
        client_id: client,
        client_secret: secret,
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
        token_endpoint_auth_method: 'client_secret_basic',
      },
    ],
    clientDefaults: { id_token_signed_response_alg: keys[0].alg },
    scopes: ['listerine.all'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        getResourceServerInfo: (_, resource) => ({
          scope: 'listerine.all',
          audience: resource,
          accessTokenFormat: resource === 'urn:orders' ? 'jwt' : 'opaque',
          jwt: { sign: { alg: keys[0].alg } },
        }),
      },
    },
    ttl: { ClientCredentials: 600 },
  });
}

let answer;
createServer((request, response) => answer(request, response)).listen(Number(port), '127.0.0.1');
for await (const line of createInterface({ input: process.stdin })) {
  answer = provider(JSON.parse(line)).callback();
  console.log('ready');
}
process.exit(0);
