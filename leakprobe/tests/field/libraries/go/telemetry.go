package main

// zap and the SDK of OpenTelemetry.

import (
	"io"
	"sync"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func init() {
	mistake("zap-buffered", func() { logOrder() }, func() { must(logOrder().Stop()) })
	mistake("otel-tracer", func() { trackOrder(newTracer()) }, fixedTracer)
	mistake("otel-meter", func() { newMeter() }, func() { must(newMeter().Shutdown(ctx)) })
	healthy("otel-shared", func() { trackOrder(sharedTracer()) })
}

// A logger for each request that buffers, and flushes every 30 seconds until it is stopped.
func logOrder() *zapcore.BufferedWriteSyncer {
	buffered := &zapcore.BufferedWriteSyncer{WS: zapcore.AddSync(io.Discard), FlushInterval: 30 * time.Second}
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	zap.New(zapcore.NewCore(encoder, buffered, zap.InfoLevel)).Info("one")
	return buffered
}

// A provider with a batching exporter for each request, as in a function that "sets up tracing".
func newTracer() *trace.TracerProvider {
	return trace.NewTracerProvider(trace.WithBatcher(tracetest.NewNoopExporter()))
}

var sharedTracer = sync.OnceValue(newTracer)

func trackOrder(provider *trace.TracerProvider) {
	_, span := provider.Tracer("orders").Start(ctx, "order")
	span.End()
}

func fixedTracer() {
	provider := newTracer()
	trackOrder(provider)
	must(provider.Shutdown(ctx))
}

func newMeter() *metric.MeterProvider {
	exporter := value(newExporter())
	return metric.NewMeterProvider(metric.WithReader(metric.NewPeriodicReader(exporter)))
}
