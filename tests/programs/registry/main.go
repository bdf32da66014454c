// Command registry is a real registry, kept in memory and filled with images that it makes itself.
//
// It prints its address, then every image with its digest, and serves until it is ended.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
)

const usage = `registry [--listen ADDRESS] [--page N] [--until-eof] [--image NAME:TAG]...
         [--auth basic|token --user NAME --password WORD] [--tls-cert FILE --tls-key FILE]
         [--proxy URL]

Serves a registry, by HTTPS where it has a certificate. With "--image -" the images are read from
the input, one a line, up to an empty line. With --proxy it has what the registry at that address
has, fetched when it is asked for.

`

type images []string

func (list *images) String() string { return strings.Join(*list, " ") }

func (list *images) Set(text string) error {
	if text != "-" {
		*list = append(*list, text)
		return nil
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan() && lines.Text() != ""; {
		*list = append(*list, lines.Text())
	}
	return nil
}

func main() {
	var wanted images
	listen := flag.String("listen", "127.0.0.1:0", "the address to serve on; port 0 takes a free one")
	page := flag.Int("page", 1000, "the most tags in one answer")
	kind := flag.String("auth", "none", "who may ask: none (everybody), basic, or token")
	user := flag.String("user", "", "who may do everything")
	password := flag.String("password", "", "the password of the user")
	certificate := flag.String("tls-cert", "", "a certificate, in PEM")
	key := flag.String("tls-key", "", "the key of the certificate, in PEM")
	proxy := flag.String("proxy", "", "the registry to fetch from")
	untilEOF := flag.Bool("until-eof", false, "end when the input does, and so with the process that started this one")
	flag.Var(&wanted, "image", "an image to make, such as prom/prometheus:v2.55.1")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	guard, err := newGuard(*kind, *user, *password)
	if err != nil {
		log.Fatal(err)
	}
	base := "http://" + listener.Addr().String()
	if *certificate != "" {
		base = "https://" + listener.Addr().String()
	}
	app, err := app(*page, *proxy, base, guard)
	if err != nil {
		log.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		if *certificate != "" {
			failed <- http.ServeTLS(listener, app, *certificate, *key)
		} else {
			failed <- http.Serve(listener, app)
		}
	}()

	output := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(output, listener.Addr())
	maker := maker{base: base, guard: guard, configured: map[string]bool{}}
	for _, image := range wanted {
		made, err := maker.make(image)
		if err != nil {
			log.Fatalf("%s: %v", image, err)
		}
		fmt.Fprintln(output, image, made)
	}
	if err := output.Flush(); err != nil {
		log.Fatal(err)
	}
	if *untilEOF {
		go func() {
			_, err := io.Copy(io.Discard, os.Stdin)
			failed <- err
		}()
	}
	if err := <-failed; err != nil {
		log.Fatal(err)
	}
}

func app(page int, proxy, base string, guard *guard) (http.Handler, error) {
	// What is not there is an error to it, and the whole point here.
	logrus.SetLevel(logrus.FatalLevel)
	settings := &configuration.Configuration{
		Storage: configuration.Storage{"inmemory": {}, "delete": {"enabled": true}},
		Tags:    configuration.Tags{MaxTags: page},
	}
	settings.HTTP.Secret = "only to continue uploads"
	settings.Proxy.RemoteURL = proxy
	if err := guard.configure(settings, base); err != nil {
		return nil, err
	}
	app := http.NewServeMux()
	app.Handle("/v2/", handlers.NewApp(context.Background(), settings))
	app.Handle("/token", guard)
	return app, nil
}

// client speaks to this very process only, so it need not know the certificate.
var client = http.Client{Transport: &http.Transport{
	TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
}}

// A maker pushes images without layers: a registry wants no more.
type maker struct {
	base       string
	guard      *guard
	configured map[string]bool
}

func (maker maker) make(image string) (digest.Digest, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", err
	}
	tagged, ok := named.(reference.Tagged)
	if !ok {
		return "", fmt.Errorf("write NAME:TAG")
	}
	name := reference.Path(named)
	config := []byte(`{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}`)
	if !maker.configured[name] {
		if err := maker.upload(name, config); err != nil {
			return "", err
		}
		maker.configured[name] = true
	}
	manifest, err := json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest,
		Config: v1.Descriptor{
			MediaType: v1.MediaTypeImageConfig,
			Digest:    digest.FromBytes(config),
			Size:      int64(len(config)),
		},
		Layers: []v1.Descriptor{},
		// Every image gets a digest of its own.
		Annotations: map[string]string{v1.AnnotationRefName: image},
	})
	if err != nil {
		return "", err
	}
	address := fmt.Sprintf("%s/v2/%s/manifests/%s", maker.base, name, tagged.Tag())
	_, err = maker.send(name, http.MethodPut, address, v1.MediaTypeImageManifest, manifest)
	return digest.FromBytes(manifest), err
}

func (maker maker) upload(name string, blob []byte) error {
	started, err := maker.send(name, http.MethodPost, maker.base+"/v2/"+name+"/blobs/uploads/", "", nil)
	if err != nil {
		return err
	}
	address, err := url.Parse(started.Get("Location"))
	if err != nil {
		return err
	}
	query := address.Query()
	query.Set("digest", digest.FromBytes(blob).String())
	address.RawQuery = query.Encode()
	_, err = maker.send(name, http.MethodPut, address.String(), "application/octet-stream", blob)
	return err
}

func (maker maker) send(name, method, address, kind string, body []byte) (http.Header, error) {
	request, err := http.NewRequest(method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	if err := maker.guard.admit(request, name); err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s %s", method, address, response.Status, answer)
	}
	return response.Header, err
}
