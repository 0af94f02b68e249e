//go:build ignore

// x/oauth2 with the assertion in the configuration, as most examples have it: the second request sends it again.
// Arguments: token endpoint, client id, resource; an assertion on stdin. Prints a line for each of two requests.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func main() {
	assertion, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	config := clientcredentials.Config{
		ClientID:  os.Args[2],
		TokenURL:  os.Args[1],
		AuthStyle: oauth2.AuthStyleInParams,
		Scopes:    []string{"orders:read"},
		EndpointParams: url.Values{
			"resource":              {os.Args[3]},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
			"client_assertion":      {string(assertion)},
		},
	}
	for range 2 {
		if _, err := config.Token(context.Background()); err != nil {
			fmt.Println("refused", err)
		} else {
			fmt.Println("ok")
		}
	}
}
