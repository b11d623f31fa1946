// Prints the value of each wake of a key, and misses none between two answers of the gateway:
//
//	go run wakes.go http://127.0.0.1:8181/v1/maps/deploy ready
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"
)

// An answer to a wait, or a problem.
type answer struct {
	Detail, Revision string
	Events           []struct{ Value json.RawMessage }
}

func main() {
	query := url.Values{"key": {os.Args[2]}}
	for {
		var told answer
		response, err := http.Get(os.Args[1] + "/wait?" + query.Encode())
		if err == nil {
			err = json.NewDecoder(response.Body).Decode(&told)
			response.Body.Close()
		}
		if told.Revision != "" {
			query.Set("since", told.Revision)
		}
		for _, event := range told.Events {
			fmt.Println(string(event.Value))
		}
		if err != nil || response.StatusCode == 429 || response.StatusCode == 503 {
			time.Sleep(time.Second)
		} else if response.StatusCode != 200 && response.StatusCode != 408 {
			fmt.Fprintln(os.Stderr, told.Detail)
			os.Exit(1)
		}
	}
}
