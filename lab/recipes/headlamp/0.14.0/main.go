// Headlamp shows Headlamp's pages and passes their questions on to the API server, each with the token
// of the person who asks. It has no rights of its own.
//
// It stands in for the server of Headlamp's makers, of which no Go module is published, and answers
// what the pages ask of it: which clusters there are, who logs in, and the cluster's API.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"embed"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

var version = "unknown"

//go:embed pages
var embedded embed.FS

func main() {
	listen := flag.String("listen", ":4466", "the address to listen at")
	authority := flag.String("authority", "", "a file with the authority of the API server's certificate")
	tellVersion := flag.Bool("version", false, "print the version and end")
	flag.Parse()
	if *tellVersion {
		fmt.Println("headlamp", version)
		return
	}
	handler, err := fromEnvironment(*authority)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Addr:              *listen,
		Handler:           handler,
		IdleTimeout:       2 * time.Minute,
		ReadHeaderTimeout: 10 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}

// fromEnvironment gives the handler for the API server that a pod's environment names: an address,
// since a name takes a name service that answers.
func fromEnvironment(authority string) (http.Handler, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, fmt.Errorf("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
	}
	content, err := os.ReadFile(authority)
	if err != nil {
		return nil, fmt.Errorf("the authority cannot be read: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("%s has no certificate", authority)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	pages, err := fs.Sub(embedded, "pages")
	if err != nil {
		return nil, err
	}
	api := &url.URL{Scheme: "https", Host: net.JoinHostPort(host, port)}
	return newHandler(api, transport, pages), nil
}
