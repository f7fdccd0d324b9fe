package config

import (
	"fmt"
	"io"
	"os"
)

// ReadBounded reads a whole file that is not expected to be longer than max bytes.
func ReadBounded(name string, max int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, fmt.Errorf("%s is longer than %s", name, formatSize(max))
	}
	return data, nil
}
