// Command registry is a real registry, kept in memory and filled with images that it makes itself.
//
// It prints its address, then every image with its digest, and serves until it is ended.
package main

import (
	"bufio"
	"bytes"
	"context"
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

Serves a registry over plain HTTP. With "--image -" the images are read from the input, one a line,
up to an empty line.

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
	failed := make(chan error, 1)
	go func() { failed <- http.Serve(listener, app(*page)) }()

	output := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(output, listener.Addr())
	maker := maker{base: "http://" + listener.Addr().String(), configured: map[string]bool{}}
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

func app(page int) http.Handler {
	// What is not there is an error to it, and the whole point here.
	logrus.SetLevel(logrus.FatalLevel)
	settings := &configuration.Configuration{
		Storage: configuration.Storage{"inmemory": {}, "delete": {"enabled": true}},
		Tags:    configuration.Tags{MaxTags: page},
	}
	settings.HTTP.Secret = "only to continue uploads"
	return handlers.NewApp(context.Background(), settings)
}

// A maker pushes images without layers: a registry wants no more.
type maker struct {
	base       string
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
	_, err = send(http.MethodPut, address, v1.MediaTypeImageManifest, manifest)
	return digest.FromBytes(manifest), err
}

func (maker maker) upload(name string, blob []byte) error {
	started, err := send(http.MethodPost, maker.base+"/v2/"+name+"/blobs/uploads/", "", nil)
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
	_, err = send(http.MethodPut, address.String(), "application/octet-stream", blob)
	return err
}

func send(method, address, kind string, body []byte) (http.Header, error) {
	request, err := http.NewRequest(method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	response, err := http.DefaultClient.Do(request)
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
