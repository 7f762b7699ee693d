// An OpenID Connect provider for tests: npm's oidc-provider, which is certified. Its argument is HOST:PORT, and the issuer
// is "http://" before that; it writes a line once it listens. Version 8 is the last that runs on Debian 12's Node.js.
//
// The client "postern" has the secret "secret", and the accounts are alice and bob, with the password "secret". The
// password grant, which oidc-provider leaves to those who want it, also serves the tests in the place of a browser: its
// parameter resource says for whom the access token is, and of what kind. The scope "bare" leaves at_hash out of the ID token.
//
//	urn:signed   a JWT for the audience postern
//	urn:opaque   an opaque token for it
//	urn:shop     a JWT for another audience
//
// Its accounts are looked up at /scim/v2 (RFC 7644), with a token of the client credentials grant that has the scope "users".
//
// Tests steer it by these requests:
//
//	POST /rotate            signs with a new key from here on; the last one stays published
//	POST /rotate?withdraw   takes all others back
//	POST /forget            takes all tokens of clients back
//	GET  /asked             how often each path was asked for
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import Provider, { errors } from 'oidc-provider';

const [, , address] = process.argv;
const issuer = `http://${address}`;
const users = new Set(['alice', 'bob']);
const resources = {
  'urn:signed': { audience: 'postern', scope: 'mail', accessTokenFormat: 'jwt' },
  'urn:opaque': { audience: 'postern', scope: 'mail', accessTokenFormat: 'opaque' },
  'urn:shop': { audience: 'shop', scope: 'mail', accessTokenFormat: 'jwt' },
};

const account = (ctx, id) => users.has(id)
  ? { accountId: id, claims: () => ({ sub: id, preferred_username: id, groups: ['mail'] }) }
  : undefined;

function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

async function passwordGrant(ctx, next) {
  const { client, params, provider } = ctx.oidc;
  const about = account(ctx, params.username);
  if (!about || params.password !== 'secret') {
    throw new errors.InvalidGrant('wrong password');
  }
  ctx.oidc.entity('Account', about);
  const token = new provider.AccessToken({ accountId: about.accountId, client, gty: 'password' });
  const resource = resources[params.resource];
  if (resource) {
    token.resourceServer = new provider.ResourceServer(params.resource, resource);
    token.scope = resource.scope;
  }
  ctx.oidc.entity('AccessToken', token);
  const access = await token.save();
  ctx.body = { access_token: access, token_type: token.tokenType, expires_in: token.expiration, scope: params.scope };
  const scopes = (params.scope ?? '').split(' ');
  if (scopes.includes('openid')) {
    const id = new provider.IdToken(about.claims(), { ctx });
    id.scope = params.scope;
    id.set('at_hash', scopes.includes('bare') ? undefined : access);
    ctx.body.id_token = await id.issue({ use: 'idtoken' });
  }
  await next();
}

let provider;

function start(keys) {
  provider = new Provider(issuer, {
    clients: [{
      client_id: 'postern',
      client_secret: 'secret',
      grant_types: ['password', 'client_credentials', 'authorization_code'],
      redirect_uris: ['https://postern.example/callback'],
    }],
    claims: { openid: ['sub', 'preferred_username', 'groups'] },
    conformIdTokenClaims: false,
    extraTokenClaims: (ctx, token) => account(ctx, token.accountId)?.claims(),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true },
      resourceIndicators: { enabled: true, getResourceServerInfo: (ctx, name) => resources[name] },
      revocation: { enabled: true },
    },
    findAccount: account,
    jwks: { keys },
    scopes: ['openid', 'mail', 'bare', 'users'],
  });
  provider.registerGrantType('password', passwordGrant, ['username', 'password', 'resource', 'scope'], []);
  return provider.callback();
}

let keys = [newKey()];
let handle = start(keys);
let clientTokens = [];
const asked = {};

// lookUp answers a question about the accounts.
async function lookUp(request, response, filter) {
  const bearer = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '';
  const token = await provider.ClientCredentials.find(bearer);
  if (!token?.scopes.has('users') || token.isExpired) {
    response.writeHead(token ? 403 : 401).end();
    return;
  }
  clientTokens.push(token);
  const name = /^userName eq "([a-z]+)"$/.exec(filter)?.[1];
  const found = account(undefined, name) ? [{ userName: name, active: name !== 'bob', groups: [{ display: 'mail' }] }] : [];
  response.writeHead(200, { 'content-type': 'application/scim+json' }).end(JSON.stringify({
    schemas: ['urn:ietf:params:scim:api:messages:2.0:ListResponse'], totalResults: found.length, Resources: found,
  }));
}

createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, issuer);
  asked[pathname] = (asked[pathname] ?? 0) + 1;
  switch (pathname) {
    case '/asked':
      response.end(JSON.stringify(asked));
      break;
    case '/rotate':
      keys = [newKey(), ...(searchParams.has('withdraw') ? [] : keys.slice(0, 1))];
      handle = start(keys);
      response.end();
      break;
    case '/forget':
      await Promise.all(clientTokens.map((token) => token.destroy()));
      clientTokens = [];
      response.end();
      break;
    case '/scim/v2/Users':
      await lookUp(request, response, searchParams.get('filter'));
      break;
    default:
      handle(request, response);
  }
}).listen(Number(address.split(':')[1]), address.split(':')[0], () => console.log('listening'));
