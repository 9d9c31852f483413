package job

import (
	"errors"
	"strconv"
)

// at names element i of a list, such as "inputs[0]". It is called only where there is an error to report.
func at(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }

// asError turns a nil *Error into a nil error.
func asError(err *Error) error {
	if err == nil {
		return nil
	}
	return err
}

// under puts the field of err, which may be empty or a suffix such as "[2]", under a path.
func under(path string, err *Error) *Error {
	if err != nil {
		err.Field = path + err.Field
	}
	return err
}

// checkTensor is t.Check with a path that is made only if there is an error.
func checkTensor(t *Tensor, list string, i int, lim Limits) *Error {
	if t.Check("", lim) == nil {
		return nil
	}
	return toError(t.Check(at(list, i), lim))
}

// toError finds the *Error in err, which every check of this package returns.
func toError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return Invalidf("", "%s", err.Error())
}
