import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.ECKey;
import com.nimbusds.oauth2.sdk.auth.JWTAuthenticationClaimsSet;
import com.nimbusds.oauth2.sdk.auth.PrivateKeyJWT;
import com.nimbusds.oauth2.sdk.id.Audience;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.id.Issuer;
import java.net.URI;
import java.util.List;
import org.springframework.http.HttpHeaders;
import org.springframework.http.HttpMethod;
import org.springframework.http.MediaType;
import org.springframework.http.RequestEntity;
import org.springframework.security.oauth2.core.OAuth2AuthenticatedPrincipal;
import org.springframework.security.oauth2.server.resource.introspection.BadOpaqueTokenException;
import org.springframework.security.oauth2.server.resource.introspection.SpringOpaqueTokenIntrospector;
import org.springframework.util.LinkedMultiValueMap;
import org.springframework.util.MultiValueMap;
import org.springframework.web.client.RestTemplate;

/**
 * Spring's opaque-token introspector as the API that asks, with an assertion of the API's key in place of its Basic header.
 * Arguments: issuer, introspection endpoint, name of the API; on stdin a line with its private JWK (ES256), then a token a line.
 * Prints a line for each token: "active", the client and its scopes, or "refused" and Spring's words.
 */
public class Introspect {
    public static void main(String[] arguments) throws Exception {
        List<String> lines = new String(System.in.readAllBytes()).lines().toList();
        ECKey key = ECKey.parse(lines.get(0));
        URI endpoint = URI.create(arguments[1]);
        var introspector = new SpringOpaqueTokenIntrospector(arguments[1], new RestTemplate());
        introspector.setRequestEntityConverter(token -> {
            HttpHeaders headers = new HttpHeaders();
            headers.setContentType(MediaType.APPLICATION_FORM_URLENCODED);
            headers.setAccept(List.of(MediaType.APPLICATION_JSON));
            return new RequestEntity<>(form(arguments, key, token), headers, HttpMethod.POST, endpoint);
        });
        for (String token : lines.subList(1, lines.size())) {
            try {
                OAuth2AuthenticatedPrincipal caller = introspector.introspect(token);
                System.out.println("active " + caller.getAttribute("client_id") + " " + caller.getAuthorities());
            } catch (BadOpaqueTokenException refusal) {
                System.out.println("refused " + refusal.getMessage());
            }
        }
    }

    private static MultiValueMap<String, String> form(String[] arguments, ECKey key, String token) {
        try {
            var claims = new JWTAuthenticationClaimsSet(new ClientID(arguments[2]), new Audience(new Issuer(arguments[0])));
            var assertion = new PrivateKeyJWT(claims, JWSAlgorithm.ES256, key.toPrivateKey(), key.getKeyID(), null);
            MultiValueMap<String, String> form = new LinkedMultiValueMap<>();
            assertion.toParameters().forEach(form::put);
            form.add("token", token);
            return form;
        } catch (Exception unusable) {
            throw new IllegalStateException(unusable);
        }
    }
}
