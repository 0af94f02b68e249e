import org.springframework.security.oauth2.client.registration.ClientRegistrations;
import org.springframework.security.oauth2.jwt.Jwt;
import org.springframework.security.oauth2.jwt.JwtDecoder;
import org.springframework.security.oauth2.jwt.JwtDecoders;
import org.springframework.security.oauth2.jwt.JwtValidators;
import org.springframework.security.oauth2.jwt.NimbusJwtDecoder;

/**
 * Spring Security by itself: what do its two discoveries make of an issuer, and its decoder of a token?
 * Argument: the issuer; a token on stdin. Prints a line for each question: its name, "ok" or "refused", and more.
 */
public class Discovery {
    interface Question {
        String ask() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        String issuer = arguments[0];
        String token = new String(System.in.readAllBytes()).strip();
        answer("client", () -> ClientRegistrations.fromIssuerLocation(issuer).clientId("billing")
            .authorizationGrantType(org.springframework.security.oauth2.core.AuthorizationGrantType.CLIENT_CREDENTIALS)
            .build().getProviderDetails().getTokenUri());
        answer("as it comes", () -> subject(JwtDecoders.fromIssuerLocation(issuer), token));
        answer("told the type", () -> {
            NimbusJwtDecoder decoder = JwtDecoders.fromIssuerLocation(issuer);
            decoder.setJwtValidator(JwtValidators.createAtJwtValidator().issuer(issuer).audience("https://orders.example")
                .clientId("billing").build());
            return subject(decoder, token);
        });
    }

    private static String subject(JwtDecoder decoder, String token) {
        Jwt good = decoder.decode(token);
        return good.getSubject();
    }

    private static void answer(String name, Question question) {
        try {
            System.out.println(name + ": ok " + question.ask());
        } catch (Exception refusal) {
            System.out.println(name + ": refused " + refusal.getMessage().lines().findFirst().orElse(""));
        }
    }
}
