//! What a real API server sends, and does with the answers.
