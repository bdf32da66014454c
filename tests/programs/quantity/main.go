// Command quantity reads quantities with the library that the API server uses.
//
// Every line of its input is a JSON string; every line of its output a JSON object.
package main

import (
	"bufio"
	"encoding/json"
	"log"
	"os"

	"gopkg.in/inf.v0"
	"k8s.io/apimachinery/pkg/api/resource"
)

type answer struct {
	Error string `json:"error,omitempty"`
	// What Value() says.
	Value int64 `json:"value"`
	// All digits of the number, rounded away from zero.
	Exact string `json:"exact"`
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
	quantity, err := resource.ParseQuantity(text)
	if err != nil {
		return answer{Error: err.Error()}
	}
	exact := new(inf.Dec).Round(quantity.AsDec(), 0, inf.RoundUp)
	// The copy is spoilt by AsDec.
	again, _ := resource.ParseQuantity(text)
	return answer{Value: again.Value(), Exact: exact.String()}
}
