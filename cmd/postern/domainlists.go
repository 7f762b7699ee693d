package main

import (
	"context"
	"fmt"
	"os"

	"postern/internal/config"
	"postern/internal/registry"
)

func (a *app) domainShow(ctx context.Context, cfg *config.Config, args []string, f domainFlags) error {
	domain, err := parseDomain(args[0])
	if err != nil {
		return err
	}
	r := controlRequest{Domain: domain}
	r.Secrets = f.showSecrets
	reply, err := registryCall(ctx, cfg, "/v1/domain/show", r)
	if err != nil {
		return a.domainDone(reply, "", domain, err)
	}
	if reply.shadowed(domain) {
		fmt.Fprintf(a.err, "note: the configuration has a block for %s, which wins\n", domain)
	}
	return a.print(reply.Records[0])
}

func (a *app) domainImport(ctx context.Context, cfg *config.Config, args []string, _ domainFlags) error {
	in := a.in
	if args[0] != "-" {
		file, err := os.Open(args[0])
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
		defer file.Close()
		in = file
	}
	records, err := registry.Read(in)
	if err != nil {
		return fmt.Errorf("nothing was imported: %w", err)
	}
	var r controlRequest
	for _, record := range records {
		r.Records = append(r.Records, registry.Show(record, true))
	}
	reply, err := registryCall(ctx, cfg, "/v1/domain/put", r)
	if err != nil {
		return fmt.Errorf("nothing was imported: %w", err)
	}
	for _, record := range records {
		if reply.shadowed(record.Domain) {
			fmt.Fprintf(a.err, "note: the configuration has a block for %s, which wins\n", record.Domain)
		}
	}
	_, err = fmt.Fprintf(a.out, "imported: %d domains, %d of them new\n", reply.New+reply.Changed, reply.New)
	return err
}

func (a *app) domainExport(ctx context.Context, cfg *config.Config, _ []string, f domainFlags) error {
	write := registry.WriteTSV
	switch f.format {
	case "tsv":
	case "json":
		write = registry.WriteJSON
	default:
		return fmt.Errorf("unknown format %q: write tsv or json", f.format)
	}
	all, err := listRegistered(ctx, cfg, f.showSecrets)
	if err != nil {
		return err
	}
	var records []registry.Record
	for _, r := range all.Records {
		record, err := r.Record()
		if err != nil || r.Kind == "" {
			fmt.Fprintf(a.err, "note: the record of %s is unreadable and left out\n", r.Domain)
			continue
		}
		records = append(records, record)
	}
	if !f.showSecrets {
		fmt.Fprintln(a.err, "note: secrets are left out; --show-secrets exports them too")
	}
	return write(a.out, records, f.showSecrets)
}
