//go:build !linux

package worker

import "errors"

func yieldThread(int) error { return errors.ErrUnsupported }
