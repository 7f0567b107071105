import Foundation

/// The command line program.
@main
struct Kdimage {
    static func main() async {
        exit(await status(Array(CommandLine.arguments.dropFirst()), console: Console()))
    }

    /// Does what the words ask for; returns the exit status.
    static func status(_ words: [String], console: Console) async -> Int32 {
        do {
            let arguments = try Arguments(words)
            try await interruptible { try await draw(arguments, console: console) }
            return 0
        } catch UsageError.help {
            console.result(usage)
            return 0
        } catch let error as UsageError {
            console.say("Error: \(error.localizedDescription)")
            return 2
        } catch is CancellationError {
            console.say("Cancelled; no picture was written.")
            return 1
        } catch {
            console.say("Error: \(error.localizedDescription)")
            return 1
        }
    }
}
