package main

import (
	"os"
	"sync"
)

// A logFile is where the log goes: standard error, or a file that can be opened anew after it was renamed.
type logFile struct {
	path string
	mu   sync.Mutex
	f    *os.File
}

// openLog opens the file for appending; an empty path is standard error.
func openLog(path string) (*logFile, error) {
	l := &logFile{path: path, f: os.Stderr}
	return l, l.reopen()
}

func (l *logFile) reopen() error {
	if l.path == "" {
		return nil
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != os.Stderr {
		l.f.Close()
	}
	l.f = f
	return nil
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Write(p)
}

func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == os.Stderr {
		return nil
	}
	return l.f.Close()
}
