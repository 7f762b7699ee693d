package jsonobject

import (
	"encoding/json"
	"maps"
	"testing"
)

// FuzzSplit: an object has the members that encoding/json finds in it, and what is no object to it is none.
func FuzzSplit(f *testing.F) {
	for _, seed := range []string{
		``, `null`, `[]`, `1`, `"x"`, `{`, `{}`, ` { } `, `{"a":1}`, `{"a":1,"a":2}`, `{"a":1,}`, `{"a" : "b" , "c":[1,{"d":"}"}],"e":{"f":[]} }`,
		`{"\u0061\"":"\\","b\\":"\""}`, "{\"\xff\":\"\xfe\"}", `{"ä":"\ud800"}`, `{"a":-1.5e3,"b":true,"c":null,"d":""}`, `{"a":1}x`, `{"a":{}}}`,
		`{"ocs":{"meta":{"status":"ok","statuscode":200,"message":"OK"},"data":{"enabled":true,"id":"joe"}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want map[string]json.RawMessage
		err := json.Unmarshal(data, &want)
		got, gotErr := Split(data)
		if (gotErr == nil) != (err == nil && want != nil) {
			t.Fatalf("%q: %v, and encoding/json: %v, %v", data, gotErr, want, err)
		}
		if !maps.EqualFunc(got, want, func(a, b json.RawMessage) bool { return string(a) == string(b) }) {
			t.Fatalf("%q: %q, want %q", data, got, want)
		}
		for _, raw := range got {
			var s string
			if text, ok := Text(raw); ok && (json.Unmarshal(raw, &s) != nil || s != text) {
				t.Fatalf("%q is %q, want %q", raw, text, s)
			}
		}
	})
}
