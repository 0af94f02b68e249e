//go:build ignore

// go-oidc with nothing set but the audience: what does it take from the issuer's metadata?
// Arguments: issuer, audience; a token on stdin. Prints "ok" and the subject, or "refused" and why.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/coreos/go-oidc/v3/oidc"
)

func main() {
	provider, err := oidc.NewProvider(context.Background(), os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	token, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	good, err := provider.Verifier(&oidc.Config{ClientID: os.Args[2]}).Verify(context.Background(), string(token))
	if err != nil {
		fmt.Println("refused", err)
		return
	}
	fmt.Println("ok", good.Subject)
}
