package httpapi

// fields are the headers of an answer, be it net/http's or the fast lane's.
type fields interface{ Set(name, value string) }
