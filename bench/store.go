package main

import (
	"context"

	"github.com/sheafml/sheaf/resultstore"
)

// openStore opens the records in Redis as every part of Sheaf does.
func openStore(ctx context.Context, url string) (resultstore.Store, error) {
	cfg := resultstore.DefaultConfig()
	cfg.URL = url
	return resultstore.OpenRedis(ctx, cfg)
}
