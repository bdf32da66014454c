// Command reference reads image references with the library that kubelet and containerd use.
//
// Every line of its input is a JSON string; every line of its output a JSON object.
package main

import (
	"bufio"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/json"
	"log"
	"os"

	"github.com/distribution/reference"
)

type answer struct {
	Error    string `json:"error,omitempty"`
	Domain   string `json:"domain"`
	Path     string `json:"path"`
	Tag      string `json:"tag"`
	Digest   string `json:"digest"`
	Full     string `json:"full"`
	Familiar string `json:"familiar"`
	Pulled   string `json:"pulled"`
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<20)
	output := json.NewEncoder(os.Stdout)
	for input.Scan() {
		var text string
		if err := json.Unmarshal(input.Bytes(), &text); err != nil {
			log.Fatal(err)
		}
		if err := output.Encode(read(text)); err != nil {
			log.Fatal(err)
		}
	}
	if err := input.Err(); err != nil {
		log.Fatal(err)
	}
}

func read(text string) answer {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return answer{Error: err.Error()}
	}
	result := answer{
		Domain:   reference.Domain(named),
		Path:     reference.Path(named),
		Full:     named.String(),
		Familiar: reference.FamiliarString(named),
	}
	if tagged, ok := named.(reference.Tagged); ok {
		result.Tag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		result.Digest = digested.Digest().String()
	}
	pulled, err := reference.ParseDockerRef(text)
	if err != nil {
		return answer{Error: err.Error()}
	}
	result.Pulled = pulled.String()
	return result
}
