import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.Curve;
import com.nimbusds.jose.jwk.ECKey;
import com.nimbusds.jose.jwk.JWK;
import com.nimbusds.jose.jwk.gen.ECKeyGenerator;
import com.nimbusds.jose.jwk.gen.RSAKeyGenerator;
import com.nimbusds.oauth2.sdk.ClientCredentialsGrant;
import com.nimbusds.oauth2.sdk.Scope;
import com.nimbusds.oauth2.sdk.TokenRequest;
import com.nimbusds.oauth2.sdk.TokenResponse;
import com.nimbusds.oauth2.sdk.as.AuthorizationServerMetadata;
import com.nimbusds.oauth2.sdk.auth.JWTAuthenticationClaimsSet;
import com.nimbusds.oauth2.sdk.auth.PrivateKeyJWT;
import com.nimbusds.oauth2.sdk.dpop.DPoPProofFactory;
import com.nimbusds.oauth2.sdk.dpop.DefaultDPoPProofFactory;
import com.nimbusds.oauth2.sdk.http.HTTPRequest;
import com.nimbusds.oauth2.sdk.http.HTTPResponse;
import com.nimbusds.oauth2.sdk.id.Audience;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.id.Issuer;
import com.nimbusds.oauth2.sdk.token.DPoPAccessToken;
import com.nimbusds.oauth2.sdk.util.URIUtils;
import com.nimbusds.openid.connect.sdk.Nonce;
import java.net.URI;

/**
 * For each algorithm of proofs a bound token and two calls with it, by Nimbus.
 * Arguments: issuer, client, audience of the API, URL to call, algorithms; the client's private JWK (ES256) on stdin.
 * Prints a line for each algorithm: its name, the type of the token, the two statuses.
 */
public class BoundCall {
    interface Exchange {
        HTTPResponse send(Nonce nonce) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        ECKey key = ECKey.parse(new String(System.in.readAllBytes()));
        for (int at = 4; at < arguments.length; at++) {
            JWSAlgorithm algorithm = JWSAlgorithm.parse(arguments[at]);
            JWK pair = algorithm.equals(JWSAlgorithm.ES256)
                ? new ECKeyGenerator(Curve.P_256).generate() : new RSAKeyGenerator(2048).generate();
            DPoPProofFactory proofs = new DefaultDPoPProofFactory(pair, algorithm);
            DPoPAccessToken token = token(arguments, key, proofs);
            URI url = URI.create(arguments[3]);
            StringBuilder line = new StringBuilder(algorithm + " " + token.getType());
            for (int call = 0; call < 2; call++) line.append(" ").append(call(url, token, proofs));
            System.out.println(line);
        }
    }

    private static DPoPAccessToken token(String[] arguments, ECKey key, DPoPProofFactory proofs) throws Exception {
        Issuer issuer = new Issuer(arguments[0]);
        URI endpoint = AuthorizationServerMetadata.resolve(issuer).getTokenEndpointURI();
        HTTPResponse response = answered(nonce -> {
            var claims = new JWTAuthenticationClaimsSet(new ClientID(arguments[1]), new Audience(issuer));
            var assertion = new PrivateKeyJWT(claims, JWSAlgorithm.ES256, key.toPrivateKey(), key.getKeyID(), null);
            HTTPRequest request = new TokenRequest.Builder(endpoint, assertion, new ClientCredentialsGrant())
                .scope(new Scope("orders:read")).resource(URI.create(arguments[2])).build().toHTTPRequest();
            request.setDPoP(proofs.createDPoPJWT("POST", endpoint, nonce));
            return request.send();
        });
        return TokenResponse.parse(response).toSuccessResponse().getTokens().getDPoPAccessToken();
    }

    private static int call(URI url, DPoPAccessToken token, DPoPProofFactory proofs) throws Exception {
        return answered(nonce -> {
            HTTPRequest request = new HTTPRequest(HTTPRequest.Method.GET, url);
            request.setAuthorization(token.toAuthorizationHeader());
            // The factory refuses a URL with a query, which is no part of htu.
            request.setDPoP(proofs.createDPoPJWT("GET", URIUtils.getBaseURI(url), token, nonce));
            return request.send();
        }).getStatusCode();
    }

    /** Asked once more where the first answer brings a nonce. */
    private static HTTPResponse answered(Exchange exchange) throws Exception {
        HTTPResponse first = exchange.send(null);
        Nonce nonce = first.getDPoPNonce();
        return first.getStatusCode() == 200 || nonce == null ? first : exchange.send(nonce);
    }
}
