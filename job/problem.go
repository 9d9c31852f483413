package job

import "net/http"

// Problem returns how the error is told as problem details (RFC 9457): the HTTP status and the title. Its type is
// "/problems/" and the code. A code that it does not know, as a newer worker may write, is told as CodeInternal.
func (c Code) Problem() (status int, title string) {
	switch c {
	case CodeMalformed:
		return http.StatusBadRequest, "The request cannot be parsed"
	case CodeInvalid:
		return http.StatusUnprocessableEntity, "The request does not fit the model"
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge, "The request is too large"
	case CodeUnknownModel:
		return http.StatusNotFound, "No such model"
	case CodeInference:
		return http.StatusUnprocessableEntity, "The model failed at this input"
	case CodeExhausted:
		return http.StatusInternalServerError, "Every attempt at the job has failed"
	case CodeExpired:
		return http.StatusGatewayTimeout, "The job's deadline passed first"
	case CodeCanceled:
		return http.StatusConflict, "The job was canceled"
	case CodeInternal:
	}
	return http.StatusInternalServerError, "Something is wrong on our side"
}
