// Package peerpb is what the nodes of one cluster say to each other: the messages of
// peer.proto as Go types, and the service Control. protoc generates all of it except this
// comment (make proto).
//
// It is only the form of the messages. Package peerfetch/peers checks what arrives, converts
// it to the types of package proto, and moves the bytes of objects beside these messages.
package peerpb
