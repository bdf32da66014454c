// Command containerd-resolver says what containerd's own resolver makes of images.
//
// It prints a line of JSON for every image: whether containerd would pull it, and if not, why.
package main

import (
	"context"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/sirupsen/logrus"
)

const usage = `containerd-resolver [--hosts-dir DIR] [--user NAME --password WORD] IMAGE...

Asks registries as containerd does when a node pulls, and prints {"image", "verdict", "error"}.
The verdict is exists, missing, denied, status, invalid, or unknown.

`

// The most time for one image.
const patience = 10 * time.Second

type answer struct {
	Image   string `json:"image"`
	Verdict string `json:"verdict"`
	Error   string `json:"error,omitempty"`
}

func main() {
	hosts := flag.String("hosts-dir", "", "a folder of hosts.toml files, such as /etc/containerd/certs.d")
	user := flag.String("user", "", "a user of every registry")
	password := flag.String("password", "", "the password of the user")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	// The resolver logs every host that it goes on from.
	logrus.SetOutput(io.Discard)

	options := config.HostOptions{
		Credentials: func(string) (string, string, error) { return *user, *password, nil },
	}
	if *hosts != "" {
		options.HostDir = config.HostDirFromRoot(*hosts)
	}
	output := json.NewEncoder(os.Stdout)
	for _, image := range flag.Args() {
		verdict, err := ask(image, options)
		answer := answer{Image: image, Verdict: verdict}
		if err != nil {
			answer.Error = err.Error()
		}
		if err := output.Encode(answer); err != nil {
			log.Fatal(err)
		}
	}
}

// ask resolves an image, and says how that ends.
func ask(image string, options config.HostOptions) (string, error) {
	// What the CRI plug-in calls first: of a tag and a digest it keeps the digest.
	named, err := reference.ParseDockerRef(image)
	if err != nil {
		return "invalid", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: config.ConfigureHosts(ctx, options)})
	_, found, err := resolver.Resolve(ctx, named.String())
	var status remoteserrors.ErrUnexpectedStatus
	switch {
	case err == nil && found.MediaType == images.MediaTypeDockerSchema1Manifest:
		// The pull ends here, after the resolver.
		return "unknown", fmt.Errorf("schema 1 is no longer supported")
	case err == nil:
		return "exists", nil
	case errdefs.IsNotFound(err):
		return "missing", err
	case errors.Is(err, docker.ErrInvalidAuthorization):
		return "denied", err
	case errors.As(err, &status) && (status.StatusCode == 401 || status.StatusCode == 403):
		return "denied", err
	case errors.As(err, &status):
		return "status", err
	default:
		return "unknown", err
	}
}
