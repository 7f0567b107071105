import Foundation

/// Why the words of the command line make no sense.
enum UsageError: Error, Equatable {
    /// The user asks how the program is used.
    case help
    /// A word that must be there is not.
    case missing(String)
    /// A word too many.
    case surplus(String)
    /// There is no such option.
    case unknown(String)
    /// An option without its value.
    case missingValue(String)
    /// A value for an option that takes none.
    case noValue(String)
    /// A value of the wrong kind.
    case value(String, String, expected: String)
}

extension UsageError: LocalizedError {
    var errorDescription: String? {
        switch self {
        case .help: usage
        case .missing(let name): "\(name) is missing; `kdimage --help` says how it is used."
        case .surplus(let word):
            "'\(word)' is one word too many; put a prompt of several words in quotes."
        case .unknown(let option):
            "There is no option '\(option)'; `kdimage --help` lists those there are."
        case .missingValue(let option): "The option '\(option)' needs a value; give one after it."
        case .noValue(let option): "The option '\(option)' takes no value; leave it out."
        case .value(let option, let word, let expected):
            "The option '\(option)' needs \(expected), not '\(word)'."
        }
    }
}

/// What `--help` prints.
let usage = """
    usage: kdimage BUNDLE PROMPT [OPTIONS]

    Draws PROMPT with BUNDLE, a folder made by `kdexport coreml`. What is left out takes the
    bundle's default.

      -o, --output FILE      the picture to write, .png or .jpg (image.png); several pictures are
                             numbered: image-0.png, image-1.png, ...
      --negative TEXT        what to steer away from
      --steps N              denoising steps
      --guidance X           guidance scale; at most 1 turns guidance off
      --seed N               seed of the noise, as in diffusers; random if left out
      --scheduler NAME       one of the bundle's schedulers
      --size H W             height and width in pixels
      --images N             pictures to draw (1)
      --init FILE            a picture to start from instead of noise
      --strength S           how far to go from that picture, above 0 to 1
      --control FILE         the picture that the bundle's ControlNet heeds
      --control-scale X      how much the ControlNet counts; 0 turns it off
      --reduced-memory       hold one model in memory at a time
      --compute-units UNITS  all, cpu-only, cpu-and-gpu or cpu-and-neural-engine; those that the
                             bundle was made for if left out
      --previews DIR         write a picture after every step to this folder
      --check                compare the SHA-256 of every file with the manifest first
      -h, --help             print this

    Exit status: 0 done, 1 an error or cancelled, 2 wrong usage.
    """
