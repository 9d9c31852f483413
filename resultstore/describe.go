package resultstore

import (
	"context"
	"fmt"
)

// Describe says, in one line for people, which Redis answers and what it does with what it is given.
func (r *Redis) Describe(ctx context.Context) (string, error) {
	if err := r.Ping(ctx); err != nil {
		return "", err
	}
	info, err := r.client.Info(ctx).Result()
	if err != nil {
		return "answers; it does not let its settings be looked at", nil //nolint:nilerr // a managed Redis may forbid INFO
	}
	persistence := "append-only file on"
	if infoField(info, "aof_enabled") == "0" {
		persistence = "append-only file off: a crash loses results"
	}
	said := fmt.Sprintf("Redis %s, %s used, maxmemory-policy %s, %s", infoField(info, "redis_version"),
		infoField(info, "used_memory_human"), infoField(info, "maxmemory_policy"), persistence)
	if n := r.wait.replicas; n > 0 {
		said += fmt.Sprintf(", records wait for replicas: %d", n)
	}
	return said, nil
}
