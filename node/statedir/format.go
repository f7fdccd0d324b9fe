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

// Check refuses a directory of another format than this program's, which it must leave alone. A directory
// that is new, or does not exist, is fine. Check changes nothing.
func Check(dir string, known int) error {
	if _, err := isNew(dir, known); err != nil {
		return fmt.Errorf("state directory %s: %w", dir, err)
	}
	return nil
}

// isNew reports whether a directory has no format yet. Another one than known is an error.
func isNew(dir string, known int) (bool, error) {
	text, err := os.ReadFile(filepath.Join(dir, formatName))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	number, rest, _ := bytes.Cut(text, []byte("\n"))
	format, err := strconv.Atoi(strings.TrimSpace(string(number)))
	if err != nil || format < 1 {
		return false, fmt.Errorf("its file %s does not begin with a format number: restore the directory from a backup, or use an empty one", formatName)
	}
	sentence, _, _ := bytes.Cut(rest, []byte("\n"))
	switch {
	case format > known:
		return false, fmt.Errorf("it has format %d, and this program knows formats up to %d only (%s: %.200q): start the newer version again, "+
			"or give this one another directory; nothing was changed", format, known, formatName, sentence)
	case format < known:
		return false, fmt.Errorf("it has format %d, and this program knows format %d only (%s: %.200q): use the older version, "+
			"or give this one another directory; nothing was changed", format, known, formatName, sentence)
	}
	return false, nil
}
