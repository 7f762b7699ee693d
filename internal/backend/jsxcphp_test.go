package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"testing"
	"time"

	"postern/internal/auth"
)

// phpVerify verifies a signature in the server's own language: the algorithm's name as PHP knows
// it, and PHP's hash_hmac over the raw body.
const phpVerify = `
foreach (json_decode(stream_get_contents(STDIN), true) as $case) {
    $header = explode('=', $case['header'], 2);
    $known = count($header) === 2 && in_array($header[0], hash_hmac_algos(), true);
    parse_str($case['body'], $fields);
    $out[] = [
        'sha1' => hash_hmac('sha1', $case['body'], $case['secret']),
        'valid' => $known && $case['secret'] !== '' && hash_hmac($header[0], $case['body'], $case['secret']) === $header[1],
        'fields' => (object) $fields,
    ];
}
echo json_encode($out);
`

// TestJSXCSignatureByPHP: PHP computes the same signatures, verifies those of the vectors as
// expected, and reads the form's values.
func TestJSXCSignatureByPHP(t *testing.T) {
	type question struct {
		Secret string `json:"secret"`
		Body   string `json:"body"`
		Header string `json:"header"`
	}
	var asked []question
	var valid []bool
	var params [][]param
	for _, v := range jsxcVectors(t, "request") {
		var form []param
		for _, p := range v.Params {
			form = append(form, param{p[0], p[1]})
		}
		body := encodeForm(form)
		asked = append(asked, question{v.Secret, string(body), newSigner(auth.NewSecret(v.Secret)).sign(body)})
		valid, params = append(valid, true), append(params, form)
	}
	for _, v := range jsxcVectors(t, "verify") {
		asked = append(asked, question{v.Secret, v.Body, v.HeaderValue})
		valid, params = append(valid, v.Expect == "accepted"), append(params, nil)
	}
	program, err := exec.LookPath("php")
	if err != nil {
		t.Fatal("php is missing: run scripts/setup.sh")
	}
	input, err := json.Marshal(asked)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-n", "-r", phpVerify)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("php: %v", err)
	}
	var answers []struct {
		SHA1   string
		Valid  bool
		Fields map[string]string
	}
	if err := json.Unmarshal(out, &answers); err != nil || len(answers) != len(asked) {
		t.Fatalf("php answered %d of %d: %v: %s", len(answers), len(asked), err, out)
	}
	for i, a := range answers {
		if ours := newSigner(auth.NewSecret(asked[i].Secret)).sign([]byte(asked[i].Body)); "sha1="+a.SHA1 != ours {
			t.Errorf("%q: PHP signs %s, we %s", asked[i].Body, a.SHA1, ours)
		}
		if a.Valid != valid[i] {
			t.Errorf("%q with %q: PHP says %t, want %t", asked[i].Body, asked[i].Header, a.Valid, valid[i])
		}
		for _, p := range params[i] {
			if a.Fields[p.name] != p.value {
				t.Errorf("PHP reads %s=%q, sent %q", p.name, a.Fields[p.name], p.value)
			}
		}
	}
}
