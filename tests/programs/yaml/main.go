// Command yaml reads manifests with the libraries that kubectl uses.
//
// Every line of its input is a JSON string, the text of a file; every line of its output a JSON
// object with the documents, or why they cannot be read.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	numbers "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/yaml"
)

type answer struct {
	Error     string `json:"error,omitempty"`
	Documents []any  `json:"documents"`
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<24)
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
	result := answer{Documents: []any{}}
	// As StreamVisitor in k8s.io/cli-runtime.
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		document := runtime.RawExtension{}
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return result
		}
		if err != nil {
			result.Error = err.Error()
			return result
		}
		if raw := bytes.TrimSpace(document.Raw); len(raw) == 0 || string(raw) == "null" {
			continue
		}
		// As the unstructured scheme in apimachinery.
		var value any
		if err := numbers.Unmarshal(document.Raw, &value); err != nil {
			result.Error = err.Error()
			return result
		}
		result.Documents = append(result.Documents, value)
	}
}
