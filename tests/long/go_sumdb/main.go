// Verifies what Sealwire made with Go's sumdb/note and sumdb/tlog, which share no code with it.
//
// Standard input is a JSON list of claims. Standard output has a line for each: "ok", or what is
// wrong.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A claim says that Record is in the log of Checkpoint, and that this log grew out of Older. Hashes
// are in base64.
type claim struct {
	VerifierKey string
	Checkpoint  string
	Record      string
	Index       int64
	Inclusion   []string
	Older       string
	Consistency []string
}

func main() {
	var claims []claim
	if err := json.NewDecoder(os.Stdin).Decode(&claims); err != nil {
		panic(err)
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, c := range claims {
		if err := verify(c); err != nil {
			fmt.Fprintf(out, "%q\n", err)
		} else {
			fmt.Fprintln(out, "ok")
		}
	}
}

func verify(c claim) error {
	size, root, err := open(c.Checkpoint, c.VerifierKey)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	inclusion, err := hashes(c.Inclusion)
	if err != nil {
		return err
	}
	record := tlog.RecordHash([]byte(c.Record))
	if err := tlog.CheckRecord(inclusion, size, root, c.Index, record); err != nil {
		return fmt.Errorf("inclusion: %w", err)
	}
	olderSize, olderRoot, err := open(c.Older, c.VerifierKey)
	if err != nil {
		return fmt.Errorf("older checkpoint: %w", err)
	}
	consistency, err := hashes(c.Consistency)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(consistency, size, root, olderSize, olderRoot); err != nil {
		return fmt.Errorf("consistency: %w", err)
	}
	return nil
}

func open(checkpoint, verifierKey string) (size int64, root tlog.Hash, err error) {
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		return 0, root, err
	}
	n, err := note.Open([]byte(checkpoint), note.VerifierList(verifier))
	if err != nil {
		return 0, root, err
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return 0, root, fmt.Errorf("not a checkpoint of %s", verifier.Name())
	}
	if _, err := fmt.Sscanf(lines[1], "%d", &size); err != nil {
		return 0, root, err
	}
	root, err = tlog.ParseHash(lines[2])
	return size, root, err
}

func hashes(texts []string) ([]tlog.Hash, error) {
	var parsed []tlog.Hash
	for _, text := range texts {
		hash, err := tlog.ParseHash(text)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, hash)
	}
	return parsed, nil
}
