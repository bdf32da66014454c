// Command keyring finds the credentials for images with the library that kubelet uses.
//
// Every line of its input is a JSON string that holds a question as JSON; every line of its output
// an answer as JSON.
package main

import (
	"bufio"
	"encoding/json"
	"log"
	"os"

	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/credentialprovider"
	"k8s.io/kubernetes/pkg/credentialprovider/secrets"
)

type question struct {
	// Image has no tag and no digest.
	Image   string   `json:"image"`
	Secrets []secret `json:"secrets"`
}

type secret struct {
	Type string `json:"type"`
	// Data is what lies in the Secret, as text.
	Data map[string]string `json:"data"`
}

type answer struct {
	// Malformed says that kubelet makes no keyring of these secrets.
	Malformed   bool         `json:"malformed"`
	Credentials []credential `json:"credentials"`
}

type credential struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<20)
	output := json.NewEncoder(os.Stdout)
	for input.Scan() {
		var text string
		var asked question
		if err := json.Unmarshal(input.Bytes(), &text); err != nil {
			log.Fatal(err)
		}
		if err := json.Unmarshal([]byte(text), &asked); err != nil {
			log.Fatal(err)
		}
		if err := output.Encode(find(asked)); err != nil {
			log.Fatal(err)
		}
	}
	if err := input.Err(); err != nil {
		log.Fatal(err)
	}
}

func find(asked question) answer {
	var given []v1.Secret
	for _, secret := range asked.Secrets {
		data := map[string][]byte{}
		for key, value := range secret.Data {
			data[key] = []byte(value)
		}
		given = append(given, v1.Secret{Type: v1.SecretType(secret.Type), Data: data})
	}
	keyring, err := secrets.MakeDockerKeyring(given, &credentialprovider.BasicDockerKeyring{})
	if err != nil {
		return answer{Malformed: true}
	}
	found := answer{Credentials: []credential{}}
	tracked, _ := keyring.Lookup(asked.Image)
	for _, one := range tracked {
		found.Credentials = append(found.Credentials, credential{one.Username, one.Password})
	}
	return found
}
