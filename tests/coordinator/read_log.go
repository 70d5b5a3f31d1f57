// Reads a whole log over HTTPS with the packages of Go's checksum database, and checks everything that they can.
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run read_log.go https://127.0.0.1:PORT CA.pem KEY
//
// Prints the size, the root, and the SHA-256 of all entries after each other.
package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type server struct {
	url    string
	client *http.Client
}

func (s *server) get(path string) ([]byte, error) {
	response, err := s.client.Get(s.url + "/" + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != 200 {
		return nil, fmt.Errorf("%s: %s", path, response.Status)
	}
	return io.ReadAll(response.Body)
}

func (s *server) Height() int { return 8 }

func (s *server) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var contents [][]byte
	for _, tile := range tiles {
		content, err := s.get("tile/" + strings.TrimPrefix(tile.Path(), "tile/8/")) // without the height, in C2SP's
		if err != nil {
			return nil, err
		}
		contents = append(contents, content)
	}
	return contents, nil
}

func (s *server) SaveTiles([]tlog.Tile, [][]byte) {}

func bundle(data []byte) [][]byte {
	var entries [][]byte
	for len(data) > 0 {
		length := int(binary.BigEndian.Uint16(data))
		entries = append(entries, data[2:2+length])
		data = data[2+length:]
	}
	return entries
}

func main() {
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(os.Args[2])
	must(err)
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "log.tccp.internal"}}
	from := &server{os.Args[1], &http.Client{Transport: transport}}

	signed, err := from.get("checkpoint")
	must(err)
	verifier, err := note.NewVerifier(os.Args[3])
	must(err)
	opened, err := note.Open(signed, note.VerifierList(verifier))
	must(err)
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	must(err)
	tree := tlog.Tree{N: size, Hash: *(*tlog.Hash)(root)}
	hashes := tlog.TileHashReader(tree, from) // believes no tile that does not lead to the root

	all := sha256.New()
	for start := int64(0); start < size; start += 256 {
		tile := tlog.Tile{H: 8, L: -1, N: start / 256, W: int(min(256, size-start))}
		content, err := from.get(strings.Replace(tile.Path(), "tile/8/data", "tile/entries", 1))
		must(err)
		entries := bundle(content)
		if len(entries) != tile.W {
			must(fmt.Errorf("%d entries in a bundle of %d", len(entries), tile.W))
		}
		for offset, entry := range entries {
			index := start + int64(offset)
			proof, err := tlog.ProveRecord(size, index, hashes)
			must(err)
			must(tlog.CheckRecord(proof, size, tree.Hash, index, tlog.RecordHash(entry)))
			all.Write(entry)
		}
	}
	for old := int64(1); old < size; old += 1 + size/16 {
		before, err := tlog.TreeHash(old, hashes)
		must(err)
		proof, err := tlog.ProveTree(size, old, hashes)
		must(err)
		must(tlog.CheckTree(proof, size, tree.Hash, old, before))
	}
	must(json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"size": size, "root": lines[2], "entries": fmt.Sprintf("%x", all.Sum(nil)),
	}))
}

func min(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}
