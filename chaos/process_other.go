//go:build !linux

package main

import "syscall"

// childAttributes gives a child a process group of its own, so that Ctrl-C reaches only this program, which then ends
// the child.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
