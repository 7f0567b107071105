import Foundation
import KDNumerics

/// The JSON values of a small bundle: 4 latent channels of 2 x 2 cells, 4 tokens, 3 steps at most.
extension FakeBundle {
    static func hash(_ data: Data) -> String { SHA256.hex(of: data) }

    static var stableDiffusion: [String: Any] {
        [
            "schema_version": 1, "backend": "coreml", "family": "sd", "tools": ["kdexport": "0"],
            "source": ["model": "fake", "random_weights": true],
            "components": [textEncoder, unet, decoder, encoder],
            "text": [text(role: "text_encoder", hidden: "last_hidden_state")],
            "zero_negative": false,
            "latents": [
                "channels": 4, "factor": 8, "scaling_factor": 0.5, "shift_factor": 0.0,
            ],
            "shapes": ["multiple": 8, "height": 16, "width": 16, "batch": NSNull(), "sizes": []],
            "defaults": [
                "steps": 2, "guidance": 2.0, "height": 16, "width": 16,
                "negative_prompt": NSNull(), "scheduler": "default",
            ],
            "samplers": [
                [
                    "name": "default", "scheduler": "Fake", "file": "sampler.json",
                    "steps": [1, 2, 3], "image": "sampler.image.json",
                ]
            ],
            "files": [],
        ]
    }

    static func text(role: String, hidden: String, pooled: String? = nil) -> [String: Any] {
        [
            "role": role, "tokenizer": "tokenizer.json", "max_length": 4, "bos_token_id": 0,
            "eos_token_id": 1, "pad_token_id": 1, "hidden_output": hidden,
            "pooled_output": pooled ?? NSNull(), "negative_output": NSNull(),
        ]
    }

    static func tensor(_ name: String, _ shape: [Int]) -> [String: Any] {
        ["name": name, "dtype": "float32", "shape": shape]
    }

    static func component(
        _ role: String, _ file: String, inputs: [[String: Any]], outputs: [[String: Any]],
        ports: [String: String]
    ) -> [String: Any] {
        [
            "role": role, "file": "\(file).mlpackage", "precision": "fp16", "inputs": inputs,
            "outputs": outputs, "parameters": 1, "islands": [], "ports": ports,
        ]
    }

    static var textEncoder: [String: Any] {
        component(
            "text_encoder", "Text", inputs: [tensor("input_ids", [1, 4])],
            outputs: [tensor("last_hidden_state", [1, 4, 3])],
            ports: ["input_ids": "input_ids", "last_hidden_state": "last_hidden_state"])
    }

    static var unet: [String: Any] {
        component(
            "unet", "Unet",
            inputs: [
                tensor("sample", [2, 4, 2, 2]), tensor("timestep", [2]),
                tensor("encoder_hidden_states", [2, 3, 1, 4]),
            ],
            outputs: [tensor("noise_pred", [2, 4, 2, 2])],
            ports: [
                "sample": "sample", "timestep": "timestep",
                "encoder_hidden_states": "encoder_hidden_states", "noise_pred": "out_sample",
            ])
    }

    static var decoder: [String: Any] {
        component(
            "vae_decoder", "Decoder", inputs: [tensor("z", [1, 4, 2, 2])],
            outputs: [tensor("image", [1, 3, 16, 16])],
            ports: ["z": "latent_sample", "image": "sample"])
    }

    static var encoder: [String: Any] {
        component(
            "vae_encoder", "Encoder", inputs: [tensor("x", [1, 3, 16, 16])],
            outputs: [tensor("latent", [1, 8, 2, 2])],
            ports: ["x": "sample", "latent": "latent_parameters"])
    }

    /// Each step takes a part of the noise away.
    static var sampler: [String: Any] {
        var tables: [String: Any] = [:]
        for steps in 1...3 {
            tables[String(steps)] = [
                "timesteps": (0..<steps).map { 900.0 - 100.0 * Double($0) },
                "initial": Array(repeating: 1.0, count: steps + 1),
                "outputs": (0...steps).map { Array(repeating: -0.25, count: $0) },
                "noise": Array(repeating: [Double](), count: steps + 1),
                "draws": Array(repeating: 0, count: steps),
                "scale": Array(repeating: 1.0, count: steps + 1),
            ]
        }
        return [
            "name": "default", "scheduler": "Fake", "config": [String: Any](), "tables": tables,
        ]
    }

    /// Starts at every step but the second of two.
    static var imageSampler: [String: Any] {
        func start(_ calls: Int) -> [String: Any] {
            [
                "signal": 0.5, "noise": 0.5, "latent": Array(repeating: 1.0, count: calls + 1),
                "outputs": [Double](), "fresh": [Double](),
            ]
        }
        return [
            "name": "default",
            "starts": [
                "1": [start(1)], "2": [start(2), NSNull()],
                "3": [start(3), start(2), start(1)],
            ],
        ]
    }

    /// Knows the letters a and b.
    static var tokenizer: [String: Any] {
        let words = #"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"#
        return [
            "added_tokens": [],
            "normalizer": [
                "type": "Sequence",
                "normalizers": [
                    ["type": "NFC"],
                    ["type": "Replace", "pattern": ["Regex": #"\s+"#], "content": " "],
                    ["type": "Lowercase"],
                ],
            ],
            "pre_tokenizer": [
                "type": "Sequence",
                "pretokenizers": [
                    [
                        "type": "Split", "pattern": ["Regex": words], "behavior": "Removed",
                        "invert": true,
                    ],
                    ["type": "ByteLevel", "add_prefix_space": false],
                ],
            ],
            "decoder": ["type": "ByteLevel"],
            "model": [
                "type": "BPE", "end_of_word_suffix": "</w>", "unk_token": "<end>",
                "vocab": ["<begin>": 0, "<end>": 1, "a</w>": 2, "b</w>": 3], "merges": [],
            ],
        ]
    }
}
