// SPDX-License-Identifier: Apache-2.0

// A static program with its own runtime and no libc, which makes system calls by itself.
//
//	http serve PORT          answers each request with the addresses of its connection
//	http get ADDRESS:PORT N  N requests over N connections at once; prints what both ends saw
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"sync"
)

type ends struct {
	Local  string `json:"local"`
	Remote string `json:"remote"`
}

type exchange struct {
	Client ends `json:"client"`
	Server ends `json:"server"`
}

func serve(port string) error {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	fmt.Println("serving on", listener.Addr())
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		json.NewEncoder(w).Encode(ends{Local: local.String(), Remote: r.RemoteAddr})
	}))
}

func get(server string) (seen exchange, err error) {
	request, err := http.NewRequest("GET", "http://"+server+"/", nil)
	if err != nil {
		return seen, err
	}
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		seen.Client.Local = info.Conn.LocalAddr().String()
		seen.Client.Remote = info.Conn.RemoteAddr().String()
	}}
	transport := &http.Transport{DisableKeepAlives: true}
	request = request.WithContext(httptrace.WithClientTrace(request.Context(), trace))
	response, err := transport.RoundTrip(request)
	if err != nil {
		return seen, err
	}
	defer response.Body.Close()
	err = json.NewDecoder(response.Body).Decode(&seen.Server)
	return seen, err
}

func getAll(server string, count int) error {
	exchanges := make([]exchange, count)
	problems := make([]error, count)
	var running sync.WaitGroup
	for i := range exchanges {
		running.Add(1)
		go func(i int) {
			defer running.Done()
			exchanges[i], problems[i] = get(server)
		}(i)
	}
	running.Wait()
	for _, err := range problems {
		if err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(exchanges)
}

func main() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "serve":
		err = serve(os.Args[2])
	case len(os.Args) == 4 && os.Args[1] == "get":
		var count int
		count, err = strconv.Atoi(os.Args[3])
		if err == nil {
			err = getAll(os.Args[2], count)
		}
	default:
		log.Fatal("usage: http serve PORT | http get ADDRESS:PORT N")
	}
	if err != nil {
		log.Fatal(err)
	}
}
