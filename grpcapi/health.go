package grpcapi

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// health is grpc.health.v1.Health by the gateway's readiness. All services share it.
type health struct {
	healthpb.UnimplementedHealthServer
	api *API
}

// now returns the health of a service.
func (h *health) now(ctx context.Context, service string) healthpb.HealthCheckResponse_ServingStatus {
	if !slices.Contains(serviceNames(), service) {
		return healthpb.HealthCheckResponse_SERVICE_UNKNOWN
	}
	select {
	case <-h.api.closing:
	default:
		if h.api.jobs.Ready(ctx).Ready {
			return healthpb.HealthCheckResponse_SERVING
		}
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}

// Check implements grpc_health_v1.HealthServer.
func (h *health) Check(ctx context.Context, q *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	s := h.now(ctx, q.GetService())
	if s == healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		return nil, status.Error(codes.NotFound, "no such service")
	}
	return &healthpb.HealthCheckResponse{Status: s}, nil
}

// List implements grpc_health_v1.HealthServer.
func (h *health) List(ctx context.Context, _ *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	answer := &healthpb.HealthListResponse{Statuses: make(map[string]*healthpb.HealthCheckResponse)}
	for _, name := range serviceNames() {
		answer.Statuses[name] = &healthpb.HealthCheckResponse{Status: h.now(ctx, name)}
	}
	return answer, nil
}

// Watch implements grpc_health_v1.HealthServer: the health at once and on every change, until the server goes down.
func (h *health) Watch(q *healthpb.HealthCheckRequest, s grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	tick := time.NewTicker(h.api.cfg.HealthInterval)
	defer tick.Stop()
	told := healthpb.HealthCheckResponse_ServingStatus(-1)
	for {
		if now := h.now(s.Context(), q.GetService()); now != told {
			if err := s.Send(&healthpb.HealthCheckResponse{Status: now}); err != nil {
				return err
			}
			told = now
		}
		select {
		case <-h.api.closing:
			if told == healthpb.HealthCheckResponse_SERVING {
				continue // and say so, before the stream ends
			}
			return errGoingDown()
		case <-s.Context().Done():
			return status.FromContextError(s.Context().Err()).Err()
		case <-tick.C:
		}
	}
}
