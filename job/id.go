package job

import (
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"
)

// ID names a job for its whole life. It is a UUID: version 7 where Sheaf makes it, version 5 where it is derived
// from a tenant and an Idempotency-Key, and whatever the publisher chose where a job is published to NATS directly.
type ID [16]byte

// idempotencyNamespace is the UUIDv5 name space of job IDs that derive from an Idempotency-Key.
// It is part of the wire contract: another value would make a repeated submit a new job.
var idempotencyNamespace = uuid.MustParse("6f1c8a5e-2f0b-5d2e-9c57-3a5d6c1f7e10")

// NewID returns a fresh UUIDv7. It fails only if the system's random source does.
func NewID() (ID, error) {
	u, err := uuid.NewV7()
	if err != nil {
		return ID{}, fmt.Errorf("make a job ID: %w", err)
	}
	return ID(u), nil
}

// DerivedID returns the UUIDv5 of a tenant and its Idempotency-Key, so that a repeated submit is the same job.
func DerivedID(tenant, key string) ID {
	name := make([]byte, 0, len(tenant)+1+len(key))
	name = append(name, tenant...)
	name = append(name, 0) // a tenant has no NUL, so the pair is unambiguous
	name = append(name, key...)
	return ID(uuid.NewSHA1(idempotencyNamespace, name))
}

// ParseID reads the 36-character form of a UUID, in letters of either case, and no other. The nil UUID is no job ID.
func ParseID(s string) (ID, error) {
	if len(s) != 36 {
		return ID{}, fmt.Errorf("a job ID is a UUID of 36 characters, this has %d", len(s))
	}
	u, err := uuid.Parse(s)
	if err != nil {
		return ID{}, fmt.Errorf("a job ID is a UUID: %w", err)
	}
	if u == uuid.Nil {
		return ID{}, fmt.Errorf("the nil UUID is not a job ID")
	}
	return ID(u), nil
}

// String returns the canonical, lower-case form.
func (id ID) String() string { return uuid.UUID(id).String() }

// append appends the canonical form.
func (id ID) append(b []byte) []byte {
	for i, part := range [...][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return b
}

// IsZero reports whether the ID was never set.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText implements encoding.TextMarshaler with the canonical form.
func (id ID) MarshalText() ([]byte, error) { return uuid.UUID(id).MarshalText() }

// UnmarshalText implements encoding.TextUnmarshaler; it accepts what ParseID does.
func (id *ID) UnmarshalText(b []byte) error {
	parsed, err := ParseID(string(b))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}
