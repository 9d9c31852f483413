package main

import "syscall"

// childAttributes gives a child a process group of its own, so that Ctrl-C reaches only this program, which then ends
// the child; and has the kernel end the child should this program be killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
