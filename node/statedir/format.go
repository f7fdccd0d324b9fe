package statedir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// formatName is the file that holds the format: a number on the first line, and on
// the second a sentence that names the program which wrote it. Only the number may
// ever be relied on.
const formatName = "format"

func formatText(format int, program string) []byte {
	return fmt.Appendf(nil, "%d\nState of a node in format %d, written by %s. A program that does not know this format must not write here.\n",
		format, format, program)
}

// Check returns the format of a directory; 0 if none is written down, or if the directory
// does not exist. A newer format than known, which this program must leave alone, is
// an error. Check changes nothing.
func Check(dir string, known int) (format int, err error) {
	if format, err = readFormat(dir, known); err != nil {
		return 0, fmt.Errorf("state directory %s: %w", dir, err)
	}
	return format, nil
}

// readFormat returns the format of a directory, and 0 where none is written down. A
// newer format than known is an error.
func readFormat(dir string, known int) (int, error) {
	text, err := os.ReadFile(filepath.Join(dir, formatName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	number, rest, _ := bytes.Cut(text, []byte("\n"))
	format, err := strconv.Atoi(strings.TrimSpace(string(number)))
	if err != nil || format < 1 {
		return 0, fmt.Errorf("its file %s does not begin with a format number: restore the directory from a backup, or use an empty one", formatName)
	}
	if format > known {
		sentence, _, _ := bytes.Cut(rest, []byte("\n"))
		return 0, fmt.Errorf("it has format %d, and this program knows formats up to %d only (%s: %.200q): start the newer version again, "+
			"or give this one another directory; nothing was changed", format, known, formatName, sentence)
	}
	return format, nil
}
