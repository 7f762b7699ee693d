package main

func soak(s settings) error { return nil }
