package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each attack of docs/security.md names tests that there are.
func TestEveryAttackHasItsTest(t *testing.T) {
	page, err := os.ReadFile(repoPath("docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(page), "## What was tried")
	if !ok {
		t.Fatal("docs/security.md has no table of attacks")
	}
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 3 || strings.HasPrefix(cells[0], " attack") || strings.HasPrefix(cells[0], "---") {
			continue
		}
		rows++
		folder, tests := "", 0
		for _, name := range regexp.MustCompile("`[a-z/]+`|(?:Test|Fuzz)\\w+").FindAllString(cells[2], -1) {
			if strings.HasPrefix(name, "`") {
				folder = strings.Trim(name, "`")
				continue
			}
			tests++
			if !hasTest(t, folder, name) {
				t.Errorf("%q: there is no %s in %q", strings.TrimSpace(cells[0]), name, folder)
			}
		}
		if tests == 0 {
			t.Errorf("%q has no test", cells[0])
		}
	}
	if rows < 40 {
		t.Errorf("%d attacks were found in the table", rows)
	}
}

func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repoPath(folder), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(source), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}
