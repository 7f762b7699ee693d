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

func BenchmarkSplit(b *testing.B) {
	data := []byte(`{"iss":"https://id.example.org/realms/users","aud":["account","postern"],"sub":"f1f8c2a5-5a5e-4d31-9d0c-8c1c7e0a4c55","typ":"Bearer","azp":"webmail","exp":1800000000,"iat":1799999700,"scope":"openid mail profile","preferred_username":"alice"}`)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Split(data); err != nil {
			b.Fatal(err)
		}
	}
}
