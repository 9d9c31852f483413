package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// terminal opens a pseudo-terminal: what is typed into keys is read from tty.
func terminal(t testing.TB) (keys, tty *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	var unlock, number int32
	for request, arg := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, keys.Fd(), request, uintptr(unsafe.Pointer(arg))); errno != 0 { //nolint:gosec // the way of ioctl
			t.Fatal(errno)
		}
	}
	if tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	return keys, tty
}

// On a terminal the verbs ask, and take nothing but a yes for one.
func TestDeadAsksOnATerminal(t *testing.T) {
	t.Parallel()
	c := newCemetery(t)
	c.bury(t, 2, "acme", "exhausted: no")
	for _, step := range []struct {
		verb, answer, question, out string
		code                        int
	}{
		{"requeue", "n", "Requeue 2 dead letters? [y/N] ", "", exitFailure},
		{"purge", "", "Purge 2 dead letters for good? [y/N] ", "", exitFailure},
		{"requeue", "Y", "Requeue 2 dead letters? [y/N] ", "requeued 2 dead letters, new jobs: 2\n", exitOK},
	} {
		keys, tty := terminal(t)
		cmd := command(t, "dead", step.verb, "--tenant", "acme", "--server", c.api)
		var out bytes.Buffer
		cmd.Stdin, cmd.Stdout = tty, &out
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		asked, err := bufio.NewReader(stderr).ReadString(']')
		if err != nil || asked+" " != step.question {
			t.Errorf("%s: asked %q (%v), expected %q", step.verb, asked, err, step.question)
		}
		if _, err := keys.WriteString(step.answer + "\n"); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != step.code || !strings.HasSuffix(out.String(), step.out) || step.out == "" && out.Len() > 0 {
			t.Errorf("%s, answered %q: exit code %d, %q", step.verb, step.answer, code, out.String())
		}
	}
}
