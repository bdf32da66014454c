// Command promql reads expressions with the parser of Prometheus.
//
// Every line of its input is a JSON string; every line of its output a JSON object.
package main

import (
	"bufio"
	"encoding/json"
	"log"
	"os"

	"github.com/prometheus/prometheus/promql/parser"
)

type answer struct {
	// Why it is no expression.
	Error string `json:"error,omitempty"`
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
		var said answer
		if _, err := parser.NewParser(parser.Options{}).ParseExpr(text); err != nil {
			said.Error = err.Error()
		}
		if err := output.Encode(said); err != nil {
			log.Fatal(err)
		}
	}
	if err := input.Err(); err != nil {
		log.Fatal(err)
	}
}
