// An OpenID Connect provider (npm's oidc-provider) with one client, for tests/net/test_sso.py. Arguments: the module's
// file, client_id, client_secret, redirect_uri. Prints "listening <issuer>". Any user name and password will do.
import http from 'node:http';

const [module, client_id, client_secret, redirect_uri] = process.argv.slice(2);
const { default: Provider } = await import(module);
const server = http.createServer().listen(0, '127.0.0.1', () => {
	const issuer = `http://localhost:${server.address().port}`;
	const provider = new Provider(issuer, {
		clients: [{ client_id, client_secret, redirect_uris: [redirect_uri], token_endpoint_auth_method: 'client_secret_post' }],
		claims: { openid: ['sub'], email: ['email'], profile: ['name'] },
		cookies: { keys: ['of no worth'] },
		conformIdTokenClaims: false, // e-mail and name in the id_token, as Google has it
		findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@example.com`, name: id }) }),
		pkce: { required: () => true, methods: ['S256'] },
		ttl: { AccessToken: 60, AuthorizationCode: 60, Grant: 600, IdToken: 60, Interaction: 600, Session: 600 },
	});
	server.on('request', provider.callback());
	console.log(`listening ${issuer}`);
});
