package demomodels

// Digits is the name of the model that Files holds.
const Digits = "digits"

// ExampleDigit is what ExampleRequest shows.
const ExampleDigit = 3

// ExampleRequest is the body of a request to the model Digits: a picture that training never saw. It is the same as the
// file examples/digit.json.
const ExampleRequest = `{"input": [` +
	`0, 0, 6, 14, 16, 16, 2, 0, ` +
	`0, 5, 16, 13, 11, 16, 0, 0, ` +
	`0, 0, 7, 2, 15, 12, 0, 0, ` +
	`0, 0, 0, 7, 16, 13, 1, 0, ` +
	`0, 0, 0, 0, 6, 15, 10, 0, ` +
	`0, 0, 0, 0, 0, 15, 9, 0, ` +
	`0, 0, 3, 11, 8, 16, 6, 0, ` +
	`0, 0, 7, 16, 16, 8, 0, 0]}`
