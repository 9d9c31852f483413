package batch

import (
	"encoding/hex"
	"strings"

	"github.com/sheafml/sheaf/job"
)

const (
	batchPrefix  = "batch_"
	filePrefix   = "file-"
	resultPrefix = "file-out-"
	errorPrefix  = "file-err-"
)

// idOf is a batch's ID.
func idOf(u job.ID) string { return batchPrefix + hex.EncodeToString(u[:]) }

// outputID is the ID of a file that a batch writes.
func outputID(batch string, of Output) string {
	if of == Errors {
		return errorPrefix + strings.TrimPrefix(batch, batchPrefix)
	}
	return resultPrefix + strings.TrimPrefix(batch, batchPrefix)
}

// OutputID is the ID of a file that a batch writes, also while it runs. Of what is no batch it is no file's.
func OutputID(batch string, of Output) string { return outputID(batch, of) }

// outputOf reads the ID of a file that a batch writes; false if it is none.
func outputOf(file string) (batch string, of Output, ok bool) {
	h, ok := strings.CutPrefix(file, resultPrefix)
	if !ok {
		of = Errors
		if h, ok = strings.CutPrefix(file, errorPrefix); !ok {
			return "", 0, false
		}
	}
	_, ok = jobID(batchPrefix + h)
	return batchPrefix + h, of, ok
}

// isFile reports whether an ID is that of an uploaded file.
func isFile(id string) bool {
	u, ok := strings.CutPrefix(id, filePrefix)
	if !ok {
		return false
	}
	_, err := job.ParseID(u)
	return err == nil && strings.ToLower(u) == u
}

// Names of objects.

func inputObject(tenant, file string) string { return "in/" + tenant + "/" + file }

// outputObjects is what the names of all objects of a batch begin with.
func outputObjects(batch string) string { return "out/" + batch + "/" }

func (r *record) object(of Output, s *segment) string {
	if of == Errors {
		return outputObjects(r.ID) + "err/" + s.Name
	}
	return outputObjects(r.ID) + "out/" + s.Name
}
