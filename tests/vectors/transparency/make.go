// Makes reference.json with the packages of Go's checksum database: an implementation that is not ours.
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run make.go > reference.json
//
// Debian packages: golang-go, golang-golang-x-mod-dev (0.7.0).
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const size = 70000

type inclusion struct {
	Index, Size int64
	Path        []string
}

type consistency struct {
	Old, New int64
	Path     []string
}

type signed struct {
	Text, Note string
	Keys       []string
}

type reference struct {
	Roots       map[int64]string
	Inclusion   []inclusion
	Consistency []consistency
	Tiles       map[string]string // SHA-256 of the content
	Notes       []signed
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func words(path []tlog.Hash) []string {
	result := []string{}
	for _, hash := range path {
		result = append(result, hex.EncodeToString(hash[:]))
	}
	return result
}

// The key of a name: its seed is the hash of the name.
func signer(name string) (note.Signer, string) {
	seed := sha256.Sum256([]byte(name))
	public := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
	verifier, err := note.NewEd25519VerifierKey(name, public)
	must(err)
	id := sha256.Sum256([]byte(name + "\n\x01" + string(public)))
	secret := base64.StdEncoding.EncodeToString(append([]byte{1}, seed[:]...))
	result, err := note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", name, binary.BigEndian.Uint32(id[:4]), secret))
	must(err)
	return result, verifier
}

func main() {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		result := []tlog.Hash{}
		for _, index := range indexes {
			result = append(result, stored[index])
		}
		return result, nil
	})
	result := reference{Roots: map[int64]string{}, Tiles: map[string]string{}}
	for number := int64(0); number < size; number++ {
		hashes, err := tlog.StoredHashes(number, []byte(fmt.Sprintf("entry %d", number)), reader)
		must(err)
		stored = append(stored, hashes...)
	}
	root := func(n int64) tlog.Hash {
		hash, err := tlog.TreeHash(n, reader)
		must(err)
		return hash
	}
	sizes := []int64{1, 2, 3, 7, 8, 255, 256, 257, 511, 513, 65535, 65536, 65537, size}
	for _, n := range sizes {
		hash := root(n)
		result.Roots[n] = hex.EncodeToString(hash[:])
		for _, index := range []int64{0, 1, 6, 254, 256, 512, 65279, 65536, n - 1, n / 2} {
			if index < n {
				path, err := tlog.ProveRecord(n, index, reader)
				must(err)
				must(tlog.CheckRecord(path, n, hash, index, tlog.RecordHash([]byte(fmt.Sprintf("entry %d", index)))))
				result.Inclusion = append(result.Inclusion, inclusion{index, n, words(path)})
			}
		}
		for _, old := range sizes {
			if old <= n {
				path, err := tlog.ProveTree(n, old, reader)
				must(err)
				result.Consistency = append(result.Consistency, consistency{old, n, words(path)})
			}
		}
	}
	for _, n := range []int64{256, size} {
		for _, tile := range tlog.NewTiles(8, 0, n) {
			if tile.N == 0 || tile.N == 17 || tile.W != 256 || tile.L > 0 {
				data, err := tlog.ReadTileData(tile, reader)
				must(err)
				hash := sha256.Sum256(data)
				// The specification's paths leave out the height, which is always 8.
				result.Tiles[strings.Replace(tile.Path(), "tile/8/", "tile/", 1)] = hex.EncodeToString(hash[:])
			}
		}
	}
	first, firstKey := signer("example.org/log")
	second, secondKey := signer("m\u00fcller.example/\u00df")
	for _, n := range sizes {
		text := fmt.Sprintf("example.org/log\n%d\n%s\n", n, root(n).String())
		message, err := note.Sign(&note.Note{Text: text}, first, second)
		must(err)
		result.Notes = append(result.Notes, signed{text, string(message), []string{firstKey, secondKey}})
	}
	text := "empty lines\n\n\nin the text\n\u2028\n"
	message, err := note.Sign(&note.Note{Text: text}, second)
	must(err)
	result.Notes = append(result.Notes, signed{text, string(message), []string{secondKey}})
	encoder := json.NewEncoder(os.Stdout)
	must(encoder.Encode(result))
}
